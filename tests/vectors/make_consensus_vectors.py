"""Writes tests/vectors/data/consensus/*.json from the implementation: `python tests/vectors/make_consensus_vectors.py`.

The files are committed; `test_consensus_vectors.py` checks them against a reference that shares no code with
this. ML-DSA signatures differ at each run, so checkpoints.json is written only where it is missing.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from astralink_node.chain.evidence_verification import read_link, verify_any_evidence
from astralink_node.crypto import bls, ml_dsa
from astralink_node.evm.blocks import Header, empty_header, encode_header
from astralink_node.types import Hash32
from consensus import beacon, epoch, messages, proposer_selection
from consensus.block_evidence import CarriedEvidence, encode_carried
from consensus.certificate import Certificate, bitmap_of, encode_certificate
from consensus.checkpoint import Checkpoint, checkpoint_hash, encode_checkpoint
from consensus.evidence import (
    Evidence,
    EvidenceError,
    Testimony,
    contradiction,
    encode_evidence,
    encode_testimony,
    verify_evidence,
)
from consensus.evidence_forms import encode_any_evidence, evidence_hash
from consensus.forged_header import ForgedHeader
from consensus.gossip import EvidenceGossip, encode_gossip
from consensus.hashing import keccak256, merkle_branch, merkle_root
from consensus.messages import NIL, VoteType, signing_root
from consensus.payload import LEAF_NAMES, ConsensusPayload, encode_payload, payload_leaves, payload_root
from consensus.validator_set import Validator, ValidatorSet, canonical_order, encode_validator_set
from consensus.votes import SignedProposal, SignedVote, encode_proposal, encode_vote

FOLDER = Path(__file__).parent / "data" / "consensus"
GENESIS = keccak256(b"genesis of the vectors")
BLOCK = keccak256(b"a block")


def shown(value: object) -> object:
    """JSON for a value: bytes as 0x hex, names in camelCase."""
    match value:
        case bytes():
            return "0x" + value.hex()
        case VoteType():
            return value.name.lower()
        case int() if not isinstance(value, bool) and abs(value) >= 2**53:
            return str(value)  # beyond what JSON readers keep exactly
        case tuple() | list():
            return [shown(item) for item in value]
        case dict():
            return {camel(str(name)): shown(item) for name, item in value.items()}
        case _ if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value) if field.init]
            return {camel(name): shown(getattr(value, name)) for name in names}
        case _:
            return value


def camel(name: str) -> str:
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.capitalize() for part in rest)


def write(name: str, cases: object) -> None:
    (FOLDER / name).write_text(json.dumps(shown(cases), indent=1) + "\n")


def secret(index: int) -> bls.SecretKey:
    return bls.SecretKey(b"\0" + keccak256(b"voting key %d" % index)[1:])


def seed(index: int) -> ml_dsa.Seed:
    return ml_dsa.Seed(keccak256(b"checkpoint key %d" % index))


def make_set(powers: Sequence[int]) -> tuple[ValidatorSet, list[bls.SecretKey], list[ml_dsa.Seed]]:
    """A set with real keys; secrets in the order of its members."""
    owners = {bls.public_key(secret(index)): index for index in range(len(powers))}
    members = canonical_order(
        Validator(key, keccak256(ml_dsa.public_key(seed(index))), powers[index], keccak256(b"operator %d" % index)[:20])
        for key, index in owners.items()
    )
    order = [owners[member.voting_key] for member in members]
    aggregate_key = bls.aggregate_public_keys_eip2537([member.voting_key for member in members])
    return ValidatorSet(members, aggregate_key), [secret(index) for index in order], [seed(index) for index in order]


def set_object(validator_set: ValidatorSet) -> dict[str, object]:
    return {
        "validators": validator_set.validators,
        "aggregate_key": validator_set.aggregate_key,
        "total_power": validator_set.total_power,
        "member_root": validator_set.member_root,
        "hash": validator_set.hash,
        "encoded": encode_validator_set(validator_set),
    }


def sign_bytes_cases() -> list[object]:
    found: list[messages.SignedMessage] = [
        messages.ProposalMessage(GENESIS, 1, 0, BLOCK, -1),
        messages.ProposalMessage(GENESIS, 2**63 - 1, 65_535, BLOCK, 65_534),
        messages.VoteMessage(GENESIS, 1, 0, VoteType.PREVOTE, BLOCK, -1),
        messages.VoteMessage(GENESIS, 7, 3, VoteType.PREVOTE, BLOCK, 1),
        messages.VoteMessage(GENESIS, 7, 3, VoteType.PREVOTE, NIL, -1),
        messages.VoteMessage(GENESIS, 7, 3, VoteType.PRECOMMIT, BLOCK, -1),
        messages.VoteMessage(GENESIS, 7, 3, VoteType.PRECOMMIT, NIL, -1),
        messages.RevealMessage(GENESIS, 258),
        messages.CheckpointMessage(GENESIS, 4, 499, BLOCK, keccak256(b"next set")),
    ]
    return [
        {
            "kind": type(message).__name__.removesuffix("Message").lower(),
            "message": message,
            "sign_bytes": messages.encode_message(message),
            "signing_root": signing_root(messages.encode_message(message)),
        }
        for message in found
    ]


def merkle_cases() -> list[object]:
    lists = [[b"value %d" % index for index in range(count)] for count in (0, 1, 2, 3, 5, 8, 14)]
    return [
        {
            "values": values,
            "root": merkle_root(values),
            "branches": [merkle_branch(values, index) for index in range(len(values))],
        }
        for values in lists
    ]


def proposer_cases() -> list[object]:
    cases: list[object] = []
    for powers in ([10], [1, 1, 1, 1], [1, 2, 3], [5, 3, 1000, 1], [2**59, 2**58, 7], [4] * 10):
        validator_set, _, _ = make_set(powers)
        priorities = proposer_selection.initial_priorities(validator_set)
        heights = []
        for height in range(1, 25):
            heights.append(
                {
                    "height": height,
                    "priorities": priorities,
                    "priorities_hash": proposer_selection.priorities_hash(priorities),
                    "proposers_of_rounds_0_to_3": [
                        proposer_selection.proposer(priorities, validator_set, round_) for round_ in range(4)
                    ],
                }
            )
            priorities = proposer_selection.advance(priorities, validator_set)
        cases.append({"powers": [member.power for member in validator_set.validators], "heights": heights})
    return cases


def carry_over_cases() -> list[object]:
    old_set, _, _ = make_set([10, 20, 30, 40])
    priorities = proposer_selection.advance(proposer_selection.initial_priorities(old_set), old_set, 7)
    cases: list[object] = []
    for powers in ([10, 20, 30, 40, 50], [10, 20], [1, 20, 30, 40], [10, 20, 30, 40, 1, 1, 100_000]):
        new_set, _, _ = make_set(powers)
        carried = proposer_selection.carry_over(priorities, old_set, new_set)
        members = [[(member.voting_key, member.power) for member in each.validators] for each in (old_set, new_set)]
        cases.append(
            {"old_members": members[0], "old_priorities": priorities, "new_members": members[1], "carried": carried}
        )
    return cases


def commit(
    validator_set: ValidatorSet, secrets: list[bls.SecretKey], signers: list[int], **changes: object
) -> Certificate:
    unsigned = Certificate(VoteType.PRECOMMIT, 9, 1, -1, BLOCK, bitmap_of(signers, len(validator_set)), bytes(96))
    unsigned = dataclasses.replace(unsigned, **changes)
    root = signing_root(unsigned.sign_bytes(GENESIS))
    signature = bls.aggregate([bls.sign(secrets[index], root) for index in signers])
    return dataclasses.replace(unsigned, signature=signature)


def certificate_cases() -> list[object]:
    validator_set, secrets, _ = make_set([10, 10, 10, 10, 5])
    good = commit(validator_set, secrets, [0, 1, 2, 3])
    polka = commit(validator_set, secrets, [0, 1, 2, 3, 4], vote_type=VoteType.PREVOTE, round_=3, valid_round=2)
    exact_set, exact_secrets, _ = make_set([1, 1, 1])
    two_of_three = commit(exact_set, exact_secrets, [0, 2])
    wrong = [
        ("quorum", validator_set, commit(validator_set, secrets, [0, 1])),
        ("quorum", exact_set, two_of_three),
        ("signature", validator_set, dataclasses.replace(good, signers=bitmap_of([0, 1, 2, 3, 4], 5))),
        ("signature", validator_set, dataclasses.replace(good, round_=2)),
        ("signature", validator_set, dataclasses.replace(good, signature=polka.signature)),
        ("bitmap_length", validator_set, dataclasses.replace(good, signers=good.signers + b"\0")),
        ("signers", validator_set, dataclasses.replace(good, signers=bytes([good.signers[0] | 0x80]))),
    ]
    cases = [("", validator_set, good), ("", validator_set, polka), *wrong]
    return [
        {
            "genesis_hash": GENESIS,
            "set": set_object(validators),
            "certificate": certificate,
            "encoded": encode_certificate(certificate),
            "broken_rule": rule,
        }
        for rule, validators, certificate in cases
    ]


def signed_vote(secrets: list[bls.SecretKey], index: int, **changes: object) -> SignedVote:
    unsigned = dataclasses.replace(SignedVote(VoteType.PREVOTE, 9, 1, BLOCK, -1, index, bytes(96)), **changes)
    signature = bls.sign(secrets[index], signing_root(unsigned.sign_bytes(GENESIS)))
    return dataclasses.replace(unsigned, signature=signature)


def signed_proposal(secrets: list[bls.SecretKey], index: int, **changes: object) -> SignedProposal:
    unsigned = dataclasses.replace(SignedProposal(9, 1, BLOCK, -1, bytes(96)), **changes)
    signature = bls.sign(secrets[index], signing_root(unsigned.sign_bytes(GENESIS)))
    return dataclasses.replace(unsigned, signature=signature)


def votes_file() -> dict[str, object]:
    """Signed votes and proposals as they travel, and bytes that no decoder accepts."""
    validator_set, secrets, _ = make_set([10, 10, 10, 10, 5])
    precommit = {"vote_type": VoteType.PRECOMMIT}
    votes = [
        signed_vote(secrets, 0),
        signed_vote(secrets, 1, round_=3, valid_round=2),
        signed_vote(secrets, 2, block_hash=NIL),
        signed_vote(secrets, 3, **precommit),
        signed_vote(secrets, 4, **precommit, block_hash=NIL, height=2**63 - 1, round_=65_535),
    ]
    proposals = [signed_proposal(secrets, 0), signed_proposal(secrets, 4, round_=65_535, valid_round=65_534)]
    vote, late, commitment = (encode_vote(votes[at]) for at in (0, 1, 3))
    proposal = encode_proposal(proposals[0])
    refused = [
        ("vote", "type 0", b"\0" + vote[1:]),
        ("vote", "type 3", b"\3" + vote[1:]),
        ("vote", "height 0", vote[:1] + bytes(8) + vote[9:]),
        ("vote", "height 2^63", vote[:1] + b"\x80" + bytes(7) + vote[9:]),
        ("vote", "round 65,536", vote[:9] + bytes([0, 1, 0, 0]) + vote[13:]),
        ("vote", "validRound of its own round", late[:45] + bytes([0, 0, 0, 3]) + late[49:]),
        ("vote", "validRound -2", vote[:45] + b"\xff\xff\xff\xfe" + vote[49:]),
        ("vote", "nil with a validRound", late[:13] + NIL + late[45:]),
        ("vote", "a precommit with a validRound", commitment[:45] + bytes(4) + commitment[49:]),
        ("vote", "index 512", vote[:49] + bytes([0, 0, 2, 0]) + vote[53:]),
        ("vote", "one byte more", vote + b"\0"),
        ("vote", "one byte less", vote[:-1]),
        ("proposal", "for nil", proposal[:12] + NIL + proposal[44:]),
        ("proposal", "height 0", bytes(8) + proposal[8:]),
        ("proposal", "round 65,536", proposal[:8] + bytes([0, 1, 0, 0]) + proposal[12:]),
        ("proposal", "validRound of its own round", proposal[:44] + bytes([0, 0, 0, 1]) + proposal[48:]),
        ("proposal", "one byte more", proposal + b"\0"),
    ]
    return {
        "genesis_hash": GENESIS,
        "voting_keys": [member.voting_key for member in validator_set.validators],
        "accepted": [
            *({"kind": "vote", "signer": vote.validator_index, **described(vote, encode_vote)} for vote in votes),
            *(
                {"kind": "proposal", "signer": signer, **described(proposal, encode_proposal)}
                for signer, proposal in zip((0, 4), proposals, strict=True)
            ),
        ],
        "refused": [{"kind": kind, "why": why, "encoded": encoded} for kind, why, encoded in refused],
    }


def described(signed: Any, encode: Callable[[Any], bytes]) -> dict[str, object]:
    root = signing_root(signed.sign_bytes(GENESIS))
    return {"signed": signed, "signing_root": root, "encoded": encode(signed)}


def evidence_file() -> dict[str, object]:
    """Evidence of both kinds, and what looks like it; `brokenRule` is empty where it convicts."""
    validator_set, secrets, _ = make_set([10, 10, 10, 10, 5])
    other, precommit, prevote = keccak256(b"another block"), VoteType.PRECOMMIT, VoteType.PREVOTE

    def vote(vote_type: VoteType, round_: int, block_hash: bytes, valid_round: int = -1, by: int = 0) -> SignedVote:
        changes = {"vote_type": vote_type, "round_": round_, "block_hash": block_hash, "valid_round": valid_round}
        return signed_vote(secrets, by, **changes)

    def certificate(vote_type: VoteType, round_: int, block_hash: bytes, *signers: int, **changes: int) -> Certificate:
        fixed = {"vote_type": vote_type, "round_": round_, "block_hash": block_hash}
        return commit(validator_set, secrets, list(signers), **fixed, **changes)

    first, lock = vote(prevote, 1, BLOCK), vote(precommit, 1, BLOCK)
    second, later = vote(prevote, 1, other), vote(prevote, 3, other)
    commit_of_round_1 = certificate(precommit, 1, BLOCK, 0, 1, 2)
    polka_of_round_3 = certificate(prevote, 3, other, 0, 1, 3, 4)
    padded = dataclasses.replace(commit_of_round_1, signers=bitmap_of([0, 1, 2, 4], 5))
    pairs: list[tuple[str, Testimony, Testimony]] = [
        ("", first, second),
        ("", first, vote(prevote, 1, NIL)),
        ("", vote(prevote, 3, other, 1), vote(prevote, 3, other, 2)),
        ("", lock, certificate(precommit, 1, other, 0, 3, 4)),
        ("", commit_of_round_1, certificate(precommit, 1, other, 0, 3, 4)),
        ("", lock, later),
        ("", lock, vote(prevote, 3, BLOCK)),
        ("", commit_of_round_1, later),
        ("", commit_of_round_1, polka_of_round_3),
        ("contradiction", first, dataclasses.replace(first, signature=second.signature)),
        ("contradiction", first, signed_vote(secrets, 0, block_hash=other, height=10)),
        ("contradiction", lock, vote(prevote, 3, other, 1)),
        ("contradiction", lock, vote(prevote, 3, NIL)),
        ("contradiction", lock, vote(prevote, 1, other)),
        ("contradiction", vote(precommit, 1, NIL), later),
        ("contradiction", commit_of_round_1, certificate(precommit, 2, other, 0, 1, 3)),
        ("accused", first, vote(prevote, 1, other, by=1)),
        ("accused", commit_of_round_1, certificate(prevote, 3, other, 3, 4)),
        ("signature", first, dataclasses.replace(second, signature=first.signature)),
        ("signature", first, dataclasses.replace(second, signature=bytes(96))),
        ("signature", padded, certificate(prevote, 3, other, 3, 4)),
        ("signers", *(dataclasses.replace(each, validator_index=5) for each in (first, second))),
        ("signers", lock, dataclasses.replace(polka_of_round_3, signers=b"\x3b")),
        ("bitmap_length", lock, dataclasses.replace(polka_of_round_3, signers=b"\x1b\0")),
    ]
    cases = [{"broken_rule": rule, **judged(Evidence(one, two), validator_set, rule)} for rule, one, two in pairs]
    ascending = sorted((encode_testimony(first), encode_testimony(second)))
    for encoded in (
        ascending[1] + ascending[0],
        ascending[0] * 2,
        ascending[0],
        b"".join(ascending) + b"\0",
        b"\3" + b"".join(ascending)[1:],
        b"\2" + b"".join(ascending)[1:],
    ):
        cases.append({"broken_rule": "encoding", "encoded": encoded})
    return {"genesis_hash": GENESIS, "set": set_object(validator_set), "cases": cases}


def judged(evidence: Evidence, validator_set: ValidatorSet, expected_rule: str) -> dict[str, object]:
    """The case's fields, after making sure that the implementation breaks the rule that it is meant to break."""
    try:
        convicted: object = verify_evidence(evidence, validator_set, GENESIS, bls.fast_aggregate_verify)
        rule = ""
    except EvidenceError as error:
        convicted, rule = [], error.rule
    assert rule == expected_rule, f"expected {expected_rule or 'a conviction'}, found {rule or 'one'}"
    kind = contradiction(evidence.first, evidence.second)
    return {
        "testimonies": [
            {"form": "vote" if isinstance(each, SignedVote) else "certificate", **shown(each)}
            for each in (evidence.first, evidence.second)
        ],
        "encoded": encode_evidence(evidence),
        "item": encode_carried(CarriedEvidence(evidence, validator_set)),
        "kind": kind.name.lower() if kind and not rule else "",
        "convicted": convicted,
    }


def forged_headers_file() -> dict[str, object]:
    """Forged headers, and what looks like them; `brokenRule` is empty where the signers are to be frozen."""
    validator_set, secrets, _ = make_set([10, 10, 10, 10, 5])
    canonical, elsewhere = Hash32(keccak256(b"the chain's own")), Hash32(keccak256(b"another"))
    header = dataclasses.replace(
        empty_header(), number=9, parent_hash=elsewhere, gas_limit=30_000_000, timestamp=1_700_000_009
    )

    def signed(header: Header, *signers: int, **changes: object) -> ForgedHeader:
        fixed: dict[str, object] = {"height": 9, "round_": 0, "block_hash": header.hash, **changes}
        return ForgedHeader(encode_header(header), commit(validator_set, secrets, list(signers), **fixed))

    forged = signed(header, 0, 3)
    honest = dataclasses.replace(header, parent_hash=canonical)
    padded = dataclasses.replace(forged.certificate, signers=bitmap_of([0, 1, 3], 5))
    longer = dataclasses.replace(forged.certificate, signers=b"\x09\0")
    stranger = dataclasses.replace(forged.certificate, signers=b"\x29")
    nobody = dataclasses.replace(forged.certificate, signers=b"\0")
    sought: list[tuple[str, ForgedHeader, bytes]] = [
        ("", forged, canonical),
        ("", signed(header, 2), canonical),
        ("", signed(header, 0, 1, 2, 3, 4), canonical),
        ("", signed(header, 1, round_=5), canonical),
        ("", signed(dataclasses.replace(header, extra_data=bytes(1_400)), 1), canonical),
        ("header", dataclasses.replace(forged, raw_header=b"\xc0"), canonical),
        ("header", dataclasses.replace(forged, raw_header=forged.raw_header[:-1]), canonical),
        ("vote_type", signed(header, 0, 3, vote_type=VoteType.PREVOTE), canonical),
        ("block_hash", signed(header, 0, 3, block_hash=BLOCK), canonical),
        ("block_hash", dataclasses.replace(forged, raw_header=encode_header(honest)), canonical),
        ("number", signed(header, 0, 3, height=10), canonical),
        ("history", forged, bytes(32)),
        ("parent", signed(honest, 0, 1, 2, 3), canonical),
        ("parent", forged, elsewhere),
        ("bitmap_length", dataclasses.replace(forged, certificate=longer), canonical),
        ("signers", dataclasses.replace(forged, certificate=stranger), canonical),
        ("signers", dataclasses.replace(forged, certificate=nobody), canonical),
        ("signature", dataclasses.replace(forged, certificate=padded), canonical),
    ]
    cases = [judged_forgery(one, parent, validator_set, rule) for rule, one, parent in sought]
    encoded, length = encode_any_evidence(forged), 3 + len(forged.raw_header)
    for other in (
        b"",
        encoded[:-1],
        encoded + b"\0",
        b"\0" + encoded[1:],
        b"\3" + encoded[1:],
        b"\2\0\0" + encoded[length:],
        b"\2\x08\x01" + bytes(2_049) + encoded[length:],
        encoded[:length] + b"\0\0",
    ):
        cases.append({"broken_rule": "encoding", "canonical_parent": canonical, "encoded": other})
    return {"genesis_hash": GENESIS, "set": set_object(validator_set), "cases": cases}


def judged_forgery(
    forged: ForgedHeader, canonical_parent: bytes, validator_set: ValidatorSet, expected_rule: str
) -> dict[str, object]:
    """Likewise."""
    try:
        signers: object = verify_any_evidence(forged, validator_set, GENESIS, lambda _: canonical_parent)
        rule = ""
    except EvidenceError as error:
        signers, rule = [], error.rule
    assert rule == expected_rule, f"expected {expected_rule or 'a forgery'}, found {rule or 'one'}"
    link = None if rule == "header" else read_link(forged.raw_header)
    return {
        "broken_rule": rule,
        "canonical_parent": canonical_parent,
        "header": link,
        "certificate": forged.certificate,
        "encoded": encode_any_evidence(forged),
        "message": encode_gossip(EvidenceGossip(forged)),
        "item": encode_carried(CarriedEvidence(forged, validator_set)),
        "evidence_hash": evidence_hash(forged),
        "frozen": signers,
    }


def checkpoint_case() -> dict[str, object]:
    validator_set, _, seeds = make_set([10, 10, 10, 10])
    unsigned = Checkpoint(2, 299, BLOCK, validator_set.hash, bitmap_of([0, 1, 3], 4), (), ())
    root = signing_root(unsigned.sign_bytes(GENESIS))
    signers = [seeds[index] for index in (0, 1, 3)]
    checkpoint = dataclasses.replace(
        unsigned,
        keys=tuple(ml_dsa.public_key(signer) for signer in signers),
        signatures=tuple(ml_dsa.sign(signer, root) for signer in signers),
    )
    encoded = encode_checkpoint(checkpoint)
    return {
        "genesis_hash": GENESIS,
        "set": set_object(validator_set),
        "checkpoint": {
            field: getattr(checkpoint, field) for field in ("epoch", "height", "block_hash", "next_set_hash")
        },
        "encoded": encoded,
        "hash": checkpoint_hash(encoded),
    }


def payload_cases() -> list[object]:
    validator_set, secrets, _ = make_set([10, 10, 10, 10, 5])
    parent = commit(validator_set, secrets, [0, 1, 2, 3])
    credits_ = tuple(commit(validator_set, secrets, [4], height=height) for height in (5, 8))
    first = ConsensusPayload(
        version=keccak256(b"configuration"),
        genesis_hash=bytes(32),
        height=0,
        time_ms=1_790_000_000_123,
        build_round=0,
        proposer_index=0,
        priorities_hash=proposer_selection.priorities_hash((0, 0, 0, 0, 0)),
        reveal=bytes(96),
        parent_certificate=None,
        late_credits=(),
        voting_set_hash=validator_set.hash,
        next_set_hash=validator_set.hash,
        evidence=(),
        epoch=0,
        checkpoint=b"",
        checkpoint_hash=bytes(32),
        outbox_root=bytes(32),
    )
    tenth = dataclasses.replace(
        first,
        version=b"\x01",
        genesis_hash=GENESIS,
        height=10,
        time_ms=1_790_000_010_456,
        build_round=2,
        proposer_index=3,
        reveal=bls.sign(secrets[3], signing_root(messages.reveal_sign_bytes(GENESIS, 10))),
        parent_certificate=parent,
        late_credits=credits_,
        evidence=(b"first evidence", b"", b"third"),
        epoch=3,
        checkpoint=b"an encoded checkpoint",
        checkpoint_hash=checkpoint_hash(b"an encoded checkpoint"),
        outbox_root=keccak256(b"outbox"),
    )
    height_one = dataclasses.replace(first, version=b"\x01", genesis_hash=GENESIS, height=1)
    return [
        {
            "payload": payload,
            "leaves": dict(zip(LEAF_NAMES, payload_leaves(payload), strict=True)),
            "root": payload_root(payload),
            "encoded": encode_payload(payload),
        }
        for payload in (first, height_one, tenth)
    ]


def beacon_cases() -> list[object]:
    value, reveal = bytes(32), bytes(96)
    cases: list[object] = []
    for height in range(1, 5):
        following = beacon.next_prev_randao(value, reveal)
        cases.append({"height": height, "parent_value": value, "parent_reveal": reveal, "prev_randao": following})
        value, reveal = following, bls.sign(secret(0), signing_root(messages.reveal_sign_bytes(GENESIS, height)))
    return cases


def epoch_cases() -> list[object]:
    return [
        {
            "height": height,
            "epoch_length": length,
            "epoch": epoch.epoch_of(height, length),
            "is_election": epoch.is_election(height, length),
            "is_last": epoch.is_last(height, length),
        }
        for length in (3, 100)
        for height in (0, 1, 2, 3, 97, 98, 99, 100, 101)
    ]


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    write("sign_bytes.json", sign_bytes_cases())
    write("merkle.json", merkle_cases())
    write("validator_sets.json", [set_object(make_set(powers)[0]) for powers in ([1], [3, 2, 1], [2**59, 1, 7, 9, 11])])
    write("proposer_selection.json", proposer_cases())
    write("carry_over.json", carry_over_cases())
    write("certificates.json", certificate_cases())
    write("payloads.json", payload_cases())
    write("beacon.json", beacon_cases())
    write("epochs.json", epoch_cases())
    write("votes.json", votes_file())
    write("evidence.json", evidence_file())
    write("forged_headers.json", forged_headers_file())
    if not (FOLDER / "checkpoints.json").exists():
        write("checkpoints.json", [checkpoint_case()])


if __name__ == "__main__":
    main()
