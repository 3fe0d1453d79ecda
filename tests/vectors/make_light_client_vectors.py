"""Writes tests/vectors/data/consensus/light_client.json: `python -m tests.vectors.make_light_client_vectors`.

Sets and light blocks are listed once by name; a case says which block is trusted, which one is new, what the
clock shows, and which rule refuses the new one. The file is committed.
"""

import dataclasses
from collections.abc import Sequence

from astralink_node.crypto import bls
from astralink_node.evm.blocks import empty_header, encode_header
from astralink_node.light_client import (
    ForkDetected,
    LightBlock,
    LightBlockRefused,
    LightClient,
    PayloadProof,
    prove_payload,
    trust_by_hash,
)
from astralink_node.types import Hash32
from consensus.certificate import bitmap_of, decode_certificate, encode_certificate
from consensus.hashing import keccak256
from consensus.messages import VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.payload import PAYLOAD_VERSION, ConsensusPayload, encode_payload, payload_root
from consensus.validator_set import Validator, ValidatorSet, canonical_order, encode_validator_set
from tests.vectors.make_consensus_vectors import GENESIS, commit, secret, write

PARAMS = ConsensusParams(
    min_block_interval_ms=200, precision_ms=500, evidence_max_age_ms=1_000_000, unbonding_ms=2_000_001
)
START_MS = 1_790_000_000_000
NOW = START_MS + 60_000
LAST_TRUSTED_MS = START_MS + 10_000 + 1_000_000 - 1
"""The last moment at which block 10 may be built upon: half of unbonding, rounded down, less one."""


class Voters:
    """Members by the number of their secret, with their powers."""

    def __init__(self, powers: dict[int, int]) -> None:
        numbers = {bls.public_key(secret(number)): number for number in powers}
        members = canonical_order(
            Validator(key, bytes(32), powers[number], bytes(20)) for key, number in numbers.items()
        )
        self.set = ValidatorSet(members, bls.aggregate_public_keys_eip2537(list(numbers)))
        self.secrets = [secret(numbers[member.voting_key]) for member in members]
        self._order = [numbers[member.voting_key] for member in members]

    def indices(self, numbers: Sequence[int]) -> list[int]:
        return sorted(self._order.index(number) for number in numbers)


FOUR = Voters({0: 10, 1: 10, 2: 10, 3: 10})
ELECTED = Voters({2: 10, 3: 10, 4: 10, 5: 10})
"""Half of them new."""
STRANGERS = Voters({6: 10, 7: 10, 8: 10})
UNEVEN = Voters({0: 1, 1: 1, 2: 1, 9: 97})
"""Three of the four, and a newcomer who is nearly all."""
VOTERS = {"four": FOUR, "elected": ELECTED, "strangers": STRANGERS, "uneven": UNEVEN}


def rogue_set() -> tuple[ValidatorSet, bls.SecretKey]:
    """The four and an invented key that cancels theirs: the sum of all is the attacker's own key."""
    attacker = secret(66)
    total = sum(int.from_bytes(each.reveal(), "big") for each in FOUR.secrets)
    invented = (int.from_bytes(attacker.reveal(), "big") - total) % bls.CURVE_ORDER
    # An attacker reaches this key by adding points; with the secrets at hand it is one multiplication.
    key = bls.public_key(bls.SecretKey(invented.to_bytes(32, "big")))
    members = canonical_order((*FOUR.set.validators, Validator(key, bytes(32), 10, bytes(20))))
    aggregate_key = bls.aggregate_public_keys_eip2537([member.voting_key for member in members])
    return ValidatorSet(members, aggregate_key), attacker


def set_of(name: str) -> ValidatorSet:
    return rogue_set()[0] if name == "rogue" else VOTERS[name].set


def block(
    height: int,
    parent: LightBlock | bytes = bytes(32),
    *,
    voting: str = "four",
    following: str = "",
    signers: Sequence[int] | None = None,
    time_ms: int | None = None,
    whole: bool = False,
    state_root: bytes = bytes(32),
    timestamp_error: int = 0,
    prove: Sequence[int] = (),
    **commit_changes: object,
) -> dict[str, object]:
    """A certified light block under names of sets; times are one second a height unless given."""
    voting_set, next_set = set_of(voting), set_of(following or voting)
    time_ms = START_MS + 1_000 * height if time_ms is None else time_ms
    payload = ConsensusPayload(
        PAYLOAD_VERSION, GENESIS, height, time_ms, 0, 0, bytes(32), bytes(96), None, (), voting_set.hash,
        next_set.hash, (), 0, b"", bytes(32), bytes(32),
    )  # fmt: skip
    header = dataclasses.replace(
        empty_header(),
        number=height,
        parent_hash=Hash32(parent if isinstance(parent, bytes) else keccak256(parent.raw_header)),
        state_root=Hash32(state_root),
        timestamp=time_ms // 1000 + timestamp_error,
        parent_beacon_block_root=Hash32(payload_root(payload)),
    )
    if voting == "rogue":
        bitmap = bitmap_of(range(5), 5)
        certificate = commit(FOUR.set, FOUR.secrets, [0], height=height, block_hash=header.hash)
        certificate = dataclasses.replace(certificate, signers=bitmap)
        root = signing_root(certificate.sign_bytes(GENESIS))
        certificate = dataclasses.replace(certificate, signature=bls.sign(rogue_set()[1], root))
    else:
        voters = VOTERS[voting]
        indices = list(range(len(voters.set))) if signers is None else voters.indices(signers)
        changes = {"height": height, "block_hash": header.hash, **commit_changes}
        certificate = commit(voters.set, voters.secrets, indices, **changes)
    light_block = LightBlock(
        raw_header=encode_header(header),
        payload=encode_payload(payload) if whole else prove_payload(payload),
        certificate=encode_certificate(certificate),
        voting_set=encode_validator_set(voting_set),
        next_set=encode_validator_set(next_set) if following else b"",
        possessions=tuple((bls.public_key(secret(at)), bls.prove_possession(secret(at))) for at in prove),
    )
    return {"block": light_block, "voting_set": voting, "next_set": following}


def changed(entry: dict[str, object], **changes: object) -> dict[str, object]:
    """The same light block with other parts; names of sets may be among them."""
    names = {name: changes.pop(name) for name in ("voting_set", "next_set") if name in changes}
    encoded = {name: encode_validator_set(set_of(str(value))) for name, value in names.items() if value}
    light_block = dataclasses.replace(entry["block"], **changes, **encoded)
    return {**entry, **names, "block": light_block}


def with_certificate(entry: dict[str, object], **changes: object) -> dict[str, object]:
    certificate = dataclasses.replace(decode_certificate(entry["block"].certificate), **changes)
    return changed(entry, certificate=encode_certificate(certificate))


def blocks() -> dict[str, dict[str, object]]:
    """Light blocks by name."""
    tenth = block(10)
    parent = tenth["block"]
    good = block(11, parent, signers=[0, 1, 2])
    proof = good["block"].payload
    last_of_epoch = block(11, parent, following="elected")
    elected = block(12, last_of_epoch["block"], voting="elected", prove=[4, 5])
    (first_key, first_proof), (second_key, second_proof) = elected["block"].possessions
    exchanged = ((first_key, second_proof), (second_key, first_proof))
    return {
        "trusted": changed(tenth, certificate=b""),
        "next": good,
        "next, whole payload": block(11, parent, signers=[0, 1, 2], whole=True),
        "next, last of its epoch": last_of_epoch,
        "next, by strangers": block(11, parent, voting="strangers"),
        "next, two thirds short": block(11, parent, signers=[0, 1]),
        "next, of the earliest time": block(11, parent, time_ms=START_MS + 10_200),
        "next, too early": block(11, parent, time_ms=START_MS + 10_199),
        "next, of another parent": block(11, keccak256(b"another parent")),
        "next, of another parent, not certified": block(11, keccak256(b"another parent"), signers=[0, 1]),
        "next, wrong second": block(11, parent, timestamp_error=1),
        "next, signed by fewer than it says": with_certificate(good, signers=b"\x0f"),
        "next, signature of another round": with_certificate(good, round_=2),
        "next, bitmap too long": with_certificate(
            good, signers=decode_certificate(good["block"].certificate).signers + b"\0"
        ),
        "next, bit beyond the set": with_certificate(good, signers=b"\x1f"),
        "next, prevotes": block(11, parent, vote_type=VoteType.PREVOTE),
        "next, commit of another height": with_certificate(good, height=12),
        "next, commit of another block": with_certificate(good, block_hash=keccak256(b"another")),
        "next, no certificate": changed(good, certificate=b""),
        "next, another time than proven": changed(good, payload=dataclasses.replace(proof, time_ms=proof.time_ms + 1)),
        "next, branch too short": changed(good, payload=short_branches(proof)),
        "next, other set than proven": changed(good, voting_set="elected"),
        "next, other next set than proven": changed(good, next_set="elected"),
        "next, header cut": changed(good, raw_header=good["block"].raw_header[:-1]),
        "rival of the trusted": block(10, state_root=b"\x01" * 32),
        "rival of the trusted, not certified": block(10, state_root=b"\x01" * 32, signers=[0, 1]),
        "rival of the trusted, by strangers": block(10, voting="strangers"),
        "below": block(9),
        "far": block(20, signers=[0, 1, 2]),
        "far, earliest": block(20, time_ms=START_MS + 12_000),
        "far, too early": block(20, time_ms=START_MS + 11_999),
        "far, ahead of the clock": block(20, time_ms=NOW + 501),
        "far, as far ahead as clocks may be": block(20, time_ms=NOW + 500),
        "far, two thirds short": block(20, signers=[0, 1]),
        "far, by strangers": block(20, voting="strangers", prove=[6, 7, 8]),
        "far, elected": elected,
        "far, elected, known third short": block(12, voting="elected", signers=[3, 4, 5], prove=[4, 5]),
        "far, elected, no possession": changed(elected, possessions=()),
        "far, elected, possessions exchanged": changed(elected, possessions=exchanged),
        "far, uneven, known third without quorum": block(20, voting="uneven", signers=[0, 1, 2]),
        "far, invented key": block(20, voting="rogue"),
    }


def short_branches(proof: PayloadProof) -> PayloadProof:
    return dataclasses.replace(proof, branches=tuple(branch[:3] for branch in proof.branches))


CASES = [
    ("next", NOW, ""),
    ("next, whole payload", NOW, ""),
    ("next, last of its epoch", NOW, ""),
    ("next, of the earliest time", NOW, ""),
    ("next", LAST_TRUSTED_MS, ""),
    ("next", LAST_TRUSTED_MS + 1, "trusting_period"),
    ("next, by strangers", NOW, "announced_set"),
    ("next, two thirds short", NOW, "commit_quorum"),
    ("next, too early", NOW, "time"),
    ("next", START_MS + 10_500, ""),
    ("next", START_MS + 10_499, "clock"),
    ("next, of another parent", NOW, "fork"),
    ("next, of another parent, not certified", NOW, "commit_quorum"),
    ("next, wrong second", NOW, "timestamp"),
    ("next, signed by fewer than it says", NOW, "commit_signature"),
    ("next, signature of another round", NOW, "commit_signature"),
    ("next, bitmap too long", NOW, "commit_bitmap_length"),
    ("next, bit beyond the set", NOW, "commit_signers"),
    ("next, prevotes", NOW, "commit_vote_type"),
    ("next, commit of another height", NOW, "commit_height"),
    ("next, commit of another block", NOW, "commit_block_hash"),
    ("next, no certificate", NOW, "certificate"),
    ("next, another time than proven", NOW, "branch"),
    ("next, branch too short", NOW, "branch"),
    ("next, other set than proven", NOW, "voting_set"),
    ("next, other next set than proven", NOW, "next_set"),
    ("next, header cut", NOW, "encoding"),
    ("trusted", NOW, ""),
    ("rival of the trusted", NOW, "fork"),
    ("rival of the trusted", LAST_TRUSTED_MS + 1, "trusting_period"),
    ("rival of the trusted, not certified", NOW, "commit_quorum"),
    ("rival of the trusted, by strangers", NOW, "voting_set"),
    ("below", NOW, "height"),
    ("far", NOW, ""),
    ("far", LAST_TRUSTED_MS + 1, "trusting_period"),
    ("far, earliest", NOW, ""),
    ("far, too early", NOW, "time"),
    ("far, ahead of the clock", NOW, "clock"),
    ("far, as far ahead as clocks may be", NOW, ""),
    ("far, two thirds short", NOW, "commit_quorum"),
    ("far, by strangers", NOW, "trust_level"),
    ("far, elected", NOW, ""),
    ("far, elected, known third short", NOW, "trust_level"),
    ("far, elected, no possession", NOW, "possession"),
    ("far, elected, possessions exchanged", NOW, "possession"),
    ("far, uneven, known third without quorum", NOW, "commit_quorum"),
    ("far, invented key", NOW, "possession"),
]
"""(the new block, the clock, the rule that refuses it): each on top of the block named `trusted`."""


def rule_found(trusted: LightBlock, new: LightBlock, now_ms: int) -> str:
    start = trust_by_hash(trusted, keccak256(trusted.raw_header), GENESIS)
    try:
        LightClient(GENESIS, start, PARAMS, lambda: now_ms).update(new)
    except LightBlockRefused as error:
        return error.rule
    except ForkDetected:
        return "fork"
    return ""


def listed(entry: dict[str, object]) -> dict[str, object]:
    light_block = entry["block"]
    return {
        "raw_header": light_block.raw_header,
        "payload": light_block.payload,
        "certificate": light_block.certificate,
        "voting_set": entry["voting_set"],
        "next_set": entry["next_set"],
        "possessions": light_block.possessions,
    }


def main() -> None:
    known = blocks()
    trusted = known["trusted"]["block"]
    for name, now_ms, rule in CASES:
        found = rule_found(trusted, known[name]["block"], now_ms)
        assert found == rule, f"{name}: expected {rule or 'none'}, found {found or 'none'}"
    assert {name for name, _, _ in CASES} == set(known)
    write(
        "light_client.json",
        {
            "genesis_hash": GENESIS,
            "unbonding_ms": PARAMS.unbonding_ms,
            "min_block_interval_ms": PARAMS.min_block_interval_ms,
            "precision_ms": PARAMS.precision_ms,
            "sets": [{"name": name, "encoded": encode_validator_set(set_of(name))} for name in (*VOTERS, "rogue")],
            "blocks": [{"name": name, **listed(entry)} for name, entry in known.items()],
            "cases": [{"new": name, "now_ms": now_ms, "broken_rule": rule} for name, now_ms, rule in CASES],
        },
    )


if __name__ == "__main__":
    main()
