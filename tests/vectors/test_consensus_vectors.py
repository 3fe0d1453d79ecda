"""The published consensus vectors against `consensus_reference`; the implementation is held to the same files."""

import json
import struct
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from py_ecc.bls import G2ProofOfPossession

from astralink_node.chain.evidence_verification import verify_any_evidence
from astralink_node.crypto import bls, ml_dsa
from consensus import beacon, checkpoint, epoch, hashing, messages, proposer_selection
from consensus.block_evidence import CarriedEvidence, decode_carried, encode_carried
from consensus.certificate import CertificateError, decode_certificate, encode_certificate, verify_certificate
from consensus.evidence import (
    EvidenceError,
    contradiction,
    decode_evidence,
    encode_evidence,
    verify_evidence,
)
from consensus.evidence_forms import decode_any_evidence, encode_any_evidence, evidence_hash
from consensus.forged_header import ForgedHeader
from consensus.gossip import EvidenceGossip, decode_gossip, encode_gossip
from consensus.payload import LEAF_NAMES, decode_payload, encode_payload, payload_leaves, payload_root
from consensus.validator_set import Validator, ValidatorSet, decode_validator_set, encode_validator_set
from consensus.votes import decode_proposal, decode_vote, encode_proposal, encode_vote
from consensus.wire import DecodeError
from tests.vectors.consensus_reference import (
    Refused,
    aggregate_holds,
    k256,
    reference_certificate,
    reference_evidence,
    reference_forged,
    reference_formed,
    reference_item,
    reference_member_leaves,
    reference_payload,
    reference_root,
    reference_sign_bytes,
    reference_signed,
    reference_step,
    signers_of,
    tag,
    unhex,
)

FOLDER = Path(__file__).parent / "data" / "consensus"


def load(name: str):
    return json.loads((FOLDER / f"{name}.json").read_text())


def implementation_set(case) -> ValidatorSet:
    members = tuple(
        Validator(unhex(m["votingKey"]), unhex(m["mlDsaKeyHash"]), int(m["power"]), unhex(m["operator"]))
        for m in case["validators"]
    )
    return ValidatorSet(members, unhex(case["aggregateKey"]))


def test_sign_bytes_follow_the_specification():
    for case in load("sign_bytes"):
        expected = reference_sign_bytes(case["kind"], case["message"])
        assert expected == unhex(case["signBytes"])
        assert k256(expected) == unhex(case["signingRoot"])
        decoded = messages.decode_message(expected)
        assert messages.encode_message(decoded) == expected
        assert messages.signing_root(expected) == unhex(case["signingRoot"])
        assert decoded.height == int(case["message"]["height"])


def test_merkle_roots_and_branches_follow_the_specification():
    for case in load("merkle"):
        values = [unhex(value) for value in case["values"]]
        assert (reference_root(values) if values else bytes(32)) == unhex(case["root"])
        assert hashing.merkle_root(values) == unhex(case["root"])
        for index, branch in enumerate(case["branches"]):
            siblings = [unhex(sibling) for sibling in branch]
            assert hashing.merkle_branch(values, index) == tuple(siblings)
            assert hashing.verify_branch(unhex(case["root"]), values[index], index, siblings)


def test_set_hashes_follow_the_specification():
    for case in load("validator_sets"):
        root = reference_root(reference_member_leaves(case["validators"]))
        count, total = len(case["validators"]), sum(int(member["power"]) for member in case["validators"])
        assert root == unhex(case["memberRoot"])
        head = tag("ALNK:valset/v1") + struct.pack(">IQ", count, total)
        assert k256(head + unhex(case["aggregateKey"]) + root) == unhex(case["hash"])
        validator_set = implementation_set(case)
        assert validator_set.hash == unhex(case["hash"])
        assert encode_validator_set(validator_set) == unhex(case["encoded"])
        assert decode_validator_set(unhex(case["encoded"])) == validator_set


def test_aggregate_keys_are_the_sum_of_the_members_keys():
    for case in load("validator_sets"):
        keys = [unhex(member["votingKey"]) for member in case["validators"]]
        point = G2ProofOfPossession._AggregatePKs(keys)
        coordinates = unhex(case["aggregateKey"])
        x = int.from_bytes(coordinates[:64], "big")
        assert x == int.from_bytes(point, "big") & ((1 << 381) - 1)


def test_proposers_follow_the_specification():
    for case in load("proposer_selection"):
        powers = [int(power) for power in case["powers"]]
        priorities = [0] * len(powers)
        for height in case["heights"]:
            given = [int(value) for value in height["priorities"]]
            assert priorities == given
            packed = struct.pack(f">I{len(given)}q", len(given), *given)
            assert k256(tag("ALNK:priority/v1") + packed) == unhex(height["prioritiesHash"])
            trial, winners = priorities, []
            for _ in range(4):
                trial, winner = reference_step(trial, powers)
                winners.append(winner)
            assert winners == height["proposersOfRounds0To3"]
            priorities, _ = reference_step(priorities, powers)


def test_proposer_selection_reproduces_its_vectors():
    for case in load("proposer_selection"):
        powers = [int(power) for power in case["powers"]]
        members = tuple(Validator(bytes([i + 1] * 48), bytes(32), power, bytes(20)) for i, power in enumerate(powers))
        validator_set = ValidatorSet(members, bytes(128))
        priorities = proposer_selection.initial_priorities(validator_set)
        for height in case["heights"]:
            assert proposer_selection.priorities_hash(priorities) == unhex(height["prioritiesHash"])
            found = [proposer_selection.proposer(priorities, validator_set, round_) for round_ in range(4)]
            assert found == height["proposersOfRounds0To3"]
            priorities = proposer_selection.advance(priorities, validator_set)


def test_priorities_carried_to_another_set_follow_the_specification():
    for case in load("carry_over"):
        old = {key: int(value) for (key, _), value in zip(case["oldMembers"], case["oldPriorities"], strict=True)}
        total = sum(int(power) for _, power in case["newMembers"])
        values = [old.get(key, -(total + total // 8)) for key, _ in case["newMembers"]]
        spread = max(values) - min(values)
        if spread > 2 * total:
            values = [int(Fraction(value, -(-spread // (2 * total)))) for value in values]
        mean = Fraction(sum(values), len(values)).__floor__()
        assert [value - mean for value in values] == [int(value) for value in case["carried"]]
        sets = [
            ValidatorSet(
                tuple(Validator(unhex(key), bytes(32), int(power), bytes(20)) for key, power in case[side]), bytes(128)
            )
            for side in ("oldMembers", "newMembers")
        ]
        priorities = tuple(int(value) for value in case["oldPriorities"])
        assert list(proposer_selection.carry_over(priorities, *sets)) == [int(value) for value in case["carried"]]


@pytest.mark.parametrize("case", load("certificates"), ids=lambda case: case["brokenRule"] or "holds")
def test_certificates_hold_or_break_the_named_rule(case):
    certificate = case["certificate"]
    members = case["set"]["validators"]
    bitmap = unhex(certificate["signers"])
    assert reference_certificate(certificate) == unhex(case["encoded"])
    if not case["brokenRule"] or case["brokenRule"] == "signature":
        keys = [unhex(members[index]["votingKey"]) for index in signers_of(bitmap)]
        vote = {**certificate, "genesisHash": case["genesisHash"]}
        root = k256(reference_sign_bytes("vote", vote))
        holds = G2ProofOfPossession.FastAggregateVerify(keys, root, unhex(certificate["signature"]))
        assert holds is not bool(case["brokenRule"])
    power = sum(int(members[index]["power"]) for index in signers_of(bitmap) if index < len(members))
    has_quorum = Fraction(power, sum(int(member["power"]) for member in members)) > Fraction(2, 3)
    assert has_quorum is (case["brokenRule"] != "quorum")

    decoded = decode_certificate(unhex(case["encoded"]))
    assert encode_certificate(decoded) == unhex(case["encoded"])
    arguments = (decoded, implementation_set(case["set"]), unhex(case["genesisHash"]), bls.fast_aggregate_verify)
    if case["brokenRule"]:
        with pytest.raises(CertificateError) as caught:
            verify_certificate(*arguments)
        assert caught.value.rule == case["brokenRule"]
    else:
        verify_certificate(*arguments)


def test_checkpoints_follow_the_specification():
    for case in load("checkpoints"):
        encoded, members = unhex(case["encoded"]), case["set"]["validators"]
        root = k256(reference_sign_bytes("checkpoint", {**case["checkpoint"], "genesisHash": case["genesisHash"]}))
        (length,) = struct.unpack(">H", encoded[80:82])
        signers = signers_of(encoded[82 : 82 + length])
        position, power = 82 + length, 0
        for index in signers:
            key, signature = encoded[position : position + 1952], encoded[position + 1952 : position + 1952 + 3309]
            position += 1952 + 3309
            assert k256(key) == unhex(members[index]["mlDsaKeyHash"])
            MLDSA65PublicKey.from_public_bytes(key).verify(signature, root)
            with pytest.raises(InvalidSignature):
                MLDSA65PublicKey.from_public_bytes(key).verify(signature, k256(root))
            power += int(members[index]["power"])
        assert position == len(encoded)
        assert 3 * power > 2 * int(case["set"]["totalPower"])
        assert k256(encoded) == unhex(case["hash"])

        decoded = checkpoint.decode_checkpoint(encoded)
        assert checkpoint.encode_checkpoint(decoded) == encoded
        assert checkpoint.checkpoint_hash(encoded) == unhex(case["hash"])
        arguments = (implementation_set(case["set"]), unhex(case["genesisHash"]), ml_dsa.verify)
        checkpoint.verify_checkpoint(decoded, *arguments)


def test_payload_leaves_roots_and_encodings_follow_the_specification():
    for case in load("payloads"):
        leaves, encoded = reference_payload(case["payload"])
        assert encoded == unhex(case["encoded"])
        assert [unhex(leaf) for leaf in case["leaves"].values()] == leaves
        assert reference_root(leaves) == unhex(case["root"])
        payload = decode_payload(encoded)
        assert encode_payload(payload) == encoded
        assert list(payload_leaves(payload)) == leaves
        assert payload_root(payload) == unhex(case["root"])
        assert len(LEAF_NAMES) == len(leaves)


def test_the_beacon_follows_the_specification():
    for case in load("beacon"):
        value, reveal = unhex(case["parentValue"]), unhex(case["parentReveal"])
        assert k256(value + k256(reveal)) == unhex(case["prevRandao"])
        assert beacon.next_prev_randao(value, reveal) == unhex(case["prevRandao"])


def test_epochs_follow_the_specification():
    for case in load("epochs"):
        height, length = case["height"], case["epochLength"]
        assert case["epoch"] == height // length == epoch.epoch_of(height, length)
        assert case["isLast"] is (height % length == length - 1) is epoch.is_last(height, length)
        assert case["isElection"] is (height % length == length - 2) is epoch.is_election(height, length)


def test_votes_and_proposals_on_the_wire_follow_the_specification():
    file = load("votes")
    keys = [unhex(key) for key in file["votingKeys"]]
    codecs = {"vote": (encode_vote, decode_vote), "proposal": (encode_proposal, decode_proposal)}
    for case in file["accepted"]:
        encoded, (encode, decode) = unhex(case["encoded"]), codecs[case["kind"]]
        assert reference_signed(case["kind"], encoded) == case["signed"]
        message = {**case["signed"], "genesisHash": file["genesisHash"]}
        assert k256(reference_sign_bytes(case["kind"], message)) == unhex(case["signingRoot"])
        assert encode(decode(encoded)) == encoded
        sign_bytes = decode(encoded).sign_bytes(unhex(file["genesisHash"]))
        assert messages.signing_root(sign_bytes) == unhex(case["signingRoot"])
        signature = unhex(case["signed"]["signature"])
        assert bls.verify(keys[case["signer"]], unhex(case["signingRoot"]), signature)
    for case in file["refused"]:
        encoded, (_, decode) = unhex(case["encoded"]), codecs[case["kind"]]
        with pytest.raises(Refused):
            reference_signed(case["kind"], encoded)
        with pytest.raises(DecodeError):
            decode(encoded)


def test_a_vote_and_a_proposal_verify_in_another_library():
    file = load("votes")
    for kind in ("vote", "proposal"):
        case = next(case for case in file["accepted"] if case["kind"] == kind)
        key = unhex(file["votingKeys"][case["signer"]])
        assert aggregate_holds((key,), unhex(case["signingRoot"]), unhex(case["signed"]["signature"]))


@pytest.mark.parametrize("case", load("evidence")["cases"], ids=lambda case: case["brokenRule"] or case["kind"])
def test_evidence_convicts_or_breaks_the_named_rule(case):
    file, encoded, rule = load("evidence"), unhex(case["encoded"]), case["brokenRule"]
    members, genesis = file["set"]["validators"], file["genesisHash"]
    if rule:
        with pytest.raises(Refused) as refused:
            reference_evidence(encoded, members, genesis)
        assert refused.value.rule == rule
    else:
        testimonies, kind, convicted = reference_evidence(encoded, members, genesis)
        assert (testimonies, kind, convicted) == (case["testimonies"], case["kind"], case["convicted"])

    if rule == "encoding":
        with pytest.raises(DecodeError):
            decode_evidence(encoded)
        return
    evidence = decode_evidence(encoded)
    assert encode_evidence(evidence) == encoded
    arguments = (evidence, implementation_set(file["set"]), unhex(genesis), bls.fast_aggregate_verify)
    if rule:
        with pytest.raises(EvidenceError) as caught:
            verify_evidence(*arguments)
        assert caught.value.rule == rule
    else:
        assert list(verify_evidence(*arguments)) == case["convicted"]
        assert contradiction(evidence.first, evidence.second).name.lower() == case["kind"]
    item = unhex(case["item"])
    assert reference_item(reference_formed(encoded), members, unhex(file["set"]["aggregateKey"])) == item
    assert encode_carried(decode_carried(item)) == item
    assert decode_carried(item) == CarriedEvidence(evidence, arguments[1])


@pytest.mark.parametrize(
    "case", load("forged_headers")["cases"], ids=lambda case: case["brokenRule"] or f"{len(case['frozen'])} signers"
)
def test_a_forged_header_freezes_its_signers_or_breaks_the_named_rule(case):
    file, encoded, rule = load("forged_headers"), unhex(case["encoded"]), case["brokenRule"]
    members, genesis, canonical_parent = file["set"]["validators"], file["genesisHash"], case["canonicalParent"]
    if rule:
        with pytest.raises(Refused) as refused:
            reference_forged(encoded, canonical_parent, members, genesis)
        assert refused.value.rule == rule
    else:
        assert reference_forged(encoded, canonical_parent, members, genesis) == (
            case["header"],
            case["certificate"],
            case["frozen"],
        )

    if rule == "encoding":
        with pytest.raises(DecodeError):
            decode_any_evidence(encoded)
        return
    evidence, validator_set = decode_any_evidence(encoded), implementation_set(file["set"])
    assert isinstance(evidence, ForgedHeader)
    assert encode_any_evidence(evidence) == encoded
    verified = partial(verify_any_evidence, evidence, validator_set, unhex(genesis), lambda _: unhex(canonical_parent))
    if rule:
        with pytest.raises(EvidenceError) as caught:
            verified()
        assert caught.value.rule == rule
    else:
        assert list(verified()) == case["frozen"]
    assert reference_item(encoded, members, unhex(file["set"]["aggregateKey"])) == unhex(case["item"])
    assert decode_carried(unhex(case["item"])) == CarriedEvidence(evidence, validator_set)
    assert unhex(case["message"]) == b"\x0a" + encoded[1:] == encode_gossip(EvidenceGossip(evidence))
    assert decode_gossip(unhex(case["message"])) == EvidenceGossip(evidence)
    assert evidence_hash(evidence) == unhex(case["evidenceHash"]) == k256(encoded[1:])
