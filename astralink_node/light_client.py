"""The light client: believes headers by their certificates, from encoded bytes, without executing any block.

It joins the pure rules of consensus.light_verification to BLS and to the layouts of headers, payloads and sets,
and follows a chain from a header that it was told to trust. Checkpoints are followed by ML-DSA alone. It opens no
socket and no file, and loads neither py-evm nor a database: docs/specification.md, "Light client".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from astralink_node.clock import NowMs
from astralink_node.crypto import bls, ml_dsa
from astralink_node.errors import AstraLinkError
from astralink_node.evm.blocks import MalformedBlock, decode_header
from consensus.certificate import Certificate, CertificateError, decode_certificate, verify_commit
from consensus.checkpoint import decode_checkpoint, verify_checkpoint
from consensus.epoch import last_height
from consensus.evidence import Evidence, find_evidence
from consensus.forged_header import ForgedHeader
from consensus.hashing import merkle_branch, verify_branch
from consensus.light_verification import (
    LightRules,
    LightVerificationError,
    SignedHeader,
    check_certified,
    trusting_period_ms,
    verify_adjacent,
    verify_skipping,
)
from consensus.params import MAX_TIME_MS, ConsensusParams
from consensus.payload import LEAF_NAMES, ConsensusPayload, decode_payload, payload_leaves
from consensus.validator_set import ValidatorSet, decode_validator_set
from consensus.wire import DecodeError

MAX_HEADERS_KEPT = 1_024
"""Verified headers remembered to recognise a fork by; the lowest are forgotten."""

PROVEN_FIELDS = ("time_ms", "voting_set_hash", "next_set_hash")
"""What a light client needs of a payload beside its root."""

_BRANCH_LENGTH = (len(LEAF_NAMES) - 1).bit_length()


class LightBlockRefused(AstraLinkError):
    """A light block that is not to be believed. `rule` is a stable short name, the rest are facts.

    The rule `trust_level` alone may be cured: consensus.light_verification.next_height_to_try says where.
    """

    def __init__(self, rule: str, expected: str, found: str) -> None:
        super().__init__(f"{rule}: expected {expected}, found {found}")
        self.rule = rule
        self.expected = expected
        self.found = found


class ForkDetected(AstraLinkError):
    """Two certified blocks that cannot both be final. Keeps both, with their certificates, for export.

    Either the two stand at one height, or the higher one's parent is another block than the lower.
    """

    def __init__(self, known: SignedHeader, other: SignedHeader, raw_headers: tuple[bytes, bytes]) -> None:
        super().__init__(
            f"fork: block {other.height} {other.block_hash.hex()} is certified "
            f"beside block {known.height} {known.block_hash.hex()}"
        )
        self.known = known
        self.other = other
        self.raw_headers = raw_headers
        """Of the two, in RLP; the first is empty where the client began by a hash alone."""

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """One or two: the known header has none if it was trusted by its hash."""
        return tuple(each.certificate for each in (self.known, self.other) if each.certificate is not None)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What the two prove by themselves: the signers of both if they are of one height and round, else nothing."""
        return find_evidence(self.certificates)

    @property
    def forged_headers(self) -> tuple[ForgedHeader, ...]:
        """What a node of the chain may find to be forged, each by itself: it refuses the one whose parent is its own.

        None where both name one parent: then only `evidence` and post-mortem tell who is to blame.
        """
        if self.known.height == self.other.height and self.known.parent_hash == self.other.parent_hash:
            return ()
        pairs = zip(self.raw_headers, (self.known.certificate, self.other.certificate), strict=True)
        return tuple(ForgedHeader(raw, certificate) for raw, certificate in pairs if raw and certificate is not None)


@dataclass(frozen=True, slots=True)
class PayloadProof:
    """The proven fields of a payload, each with its four siblings, lowest first."""

    time_ms: int
    voting_set_hash: bytes
    next_set_hash: bytes
    branches: tuple[tuple[bytes, ...], ...]
    """In the order of `PROVEN_FIELDS`."""


@dataclass(frozen=True, slots=True)
class LightBlock:
    """What a server hands to a light client for one height; nothing in it is believed yet."""

    raw_header: bytes
    """RLP."""
    payload: bytes | PayloadProof
    """The encoded consensus payload, or what is needed of it."""
    certificate: bytes
    """Encoded; empty for a block that is trusted by its hash."""
    voting_set: bytes
    """Encoded: the set that votes on this block."""
    next_set: bytes = b""
    """Encoded: the set that votes on the next; empty if it is the same."""
    possessions: tuple[tuple[bytes, bytes], ...] = ()
    """(voting key, proof of possession) of signers whom the client may not know: only to skip across elections."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """A header that is believed, and the set that votes after it."""

    header: SignedHeader
    next_set: ValidatorSet


@dataclass(frozen=True, slots=True)
class CheckpointStep:
    """One epoch's checkpoint and the set that it hands over to, both encoded."""

    checkpoint: bytes
    next_set: bytes


@dataclass(frozen=True, slots=True)
class TrustedCheckpoint:
    """The end of a verified chain of checkpoints."""

    epoch: int
    height: int
    block_hash: bytes
    next_set: ValidatorSet


class LightClient:
    """Follows one chain from a trusted header. `now_ms` is the client's clock.

    After a fork it believes nothing more: `update` raises `ForkDetected` with the same two headers.
    """

    def __init__(self, genesis_hash: bytes, trusted: Trusted, params: ConsensusParams, now_ms: NowMs) -> None:
        self._rules = LightRules(genesis_hash, params, bls.fast_aggregate_verify, bls.verify_possession)
        self._now_ms = now_ms
        self._fork: ForkDetected | None = None
        self._headers = {trusted.header.height: trusted.header}
        self._raw_headers: dict[int, bytes] = {}
        """Of those that came in light blocks: evidence, if they turn out to be forged."""
        self.trusted = trusted

    def update(self, light_block: LightBlock) -> Trusted:
        """Believe a higher block and return it; a height that is believed already changes nothing.

        Raises `LightBlockRefused`, or `ForkDetected` for a block certified beside a believed one.
        """
        if self._fork is not None:
            raise ForkDetected(self._fork.known, self._fork.other, self._fork.raw_headers)
        header, voting_set, next_set = read_light_block(light_block)
        known = self._headers.get(header.height)
        try:
            if known is not None:
                self._compare(known, header, voting_set, light_block.raw_header)
                return self.trusted
            self._verify(header, voting_set, light_block)
        except LightVerificationError as error:
            raise LightBlockRefused(error.rule, error.expected, error.found) from error
        self.trusted = Trusted(header, next_set)
        self._headers[header.height] = header
        self._raw_headers[header.height] = light_block.raw_header
        if len(self._headers) > MAX_HEADERS_KEPT:
            lowest = min(self._headers)
            del self._headers[lowest]
            self._raw_headers.pop(lowest, None)
        return self.trusted

    def header_at(self, height: int) -> SignedHeader | None:
        """The believed header of that height, if it was seen and is remembered."""
        return self._headers.get(height)

    def _verify(self, header: SignedHeader, voting_set: ValidatorSet, light_block: LightBlock) -> None:
        trusted, now_ms = self.trusted, self._now_ms()
        if header.height != trusted.header.height + 1:
            possessions = dict(light_block.possessions)
            verify_skipping(self._rules, trusted.header, trusted.next_set, header, voting_set, possessions, now_ms)
            return
        try:
            verify_adjacent(self._rules, trusted.header, header, voting_set, now_ms)
        except LightVerificationError as error:
            if error.rule == "parent":  # checked last: all else holds
                self._raise_fork(trusted.header, header, light_block.raw_header)
            raise

    def _compare(self, known: SignedHeader, header: SignedHeader, voting_set: ValidatorSet, raw_header: bytes) -> None:
        """A second hash at a believed height is a fork only if the set of that height certified it.

        Once the believed header is past the trusting period, whoever left the set may sign anything unpunished.
        """
        if header.block_hash == known.block_hash:
            return
        age, period = self._now_ms() - known.time_ms, trusting_period_ms(self._rules.params)
        if age >= period:
            raise LightVerificationError("trusting_period", f"a believed header younger than {period} ms", f"{age} ms")
        if voting_set.hash != known.voting_set_hash:
            raise LightVerificationError("voting_set", known.voting_set_hash.hex(), voting_set.hash.hex())
        check_certified(self._rules, header, voting_set)
        self._raise_fork(known, header, raw_header)

    def _raise_fork(self, known: SignedHeader, other: SignedHeader, raw_header: bytes) -> NoReturn:
        self._fork = ForkDetected(known, other, (self._raw_headers.get(known.height, b""), raw_header))
        raise self._fork


# --- From bytes ----------------------------------------------------------------------------------------------


def read_light_block(light_block: LightBlock) -> tuple[SignedHeader, ValidatorSet, ValidatorSet]:
    """The header with what its payload proves, the set that votes on it and the one after.

    All parts belong to that one header; whether it is certified is not looked at. Raises `LightBlockRefused`.
    """
    try:
        header = decode_header(light_block.raw_header)
        certificate = decode_certificate(light_block.certificate) if light_block.certificate else None
        voting_set = decode_validator_set(light_block.voting_set)
        next_set = decode_validator_set(light_block.next_set) if light_block.next_set else voting_set
        payload = light_block.payload
        proof = payload if isinstance(payload, PayloadProof) else prove_payload(decode_payload(payload))
    except (MalformedBlock, DecodeError) as error:
        raise LightBlockRefused("encoding", error.expected, error.found) from error
    _check_branches(header.parent_beacon_block_root, proof)
    _expect("timestamp", proof.time_ms // 1000, header.timestamp)
    _expect("voting_set", proof.voting_set_hash.hex(), voting_set.hash.hex())
    _expect("next_set", proof.next_set_hash.hex(), next_set.hash.hex())
    signed_header = SignedHeader(
        height=header.number,
        time_ms=proof.time_ms,
        block_hash=header.hash,
        parent_hash=header.parent_hash,
        voting_set_hash=proof.voting_set_hash,
        next_set_hash=proof.next_set_hash,
        certificate=certificate,
    )
    return signed_header, voting_set, next_set


def trust_by_hash(light_block: LightBlock, block_hash: bytes, genesis_hash: bytes) -> Trusted:
    """Where a client begins: a block whose hash its operator, a checkpoint or genesis vouches for.

    It needs no certificate; one that comes along must hold, since a fork is later exported with it.
    """
    header, voting_set, next_set = read_light_block(light_block)
    _expect("trusted_hash", block_hash.hex(), header.block_hash.hex())
    if header.certificate is not None:
        try:
            verify_commit(
                header.certificate,
                header.height,
                header.block_hash,
                voting_set,
                genesis_hash,
                bls.fast_aggregate_verify,
            )
        except CertificateError as error:
            raise LightBlockRefused(f"commit_{error.rule}", error.expected, error.found) from error
    return Trusted(header, next_set)


def prove_payload(payload: ConsensusPayload) -> PayloadProof:
    """What a server sends instead of the whole payload."""
    leaves = payload_leaves(payload)
    branches = tuple(merkle_branch(leaves, LEAF_NAMES.index(name)) for name in PROVEN_FIELDS)
    return PayloadProof(payload.time_ms, payload.voting_set_hash, payload.next_set_hash, branches)


def verify_checkpoint_chain(
    genesis_hash: bytes, epoch_length: int, first_epoch: int, voting_set: ValidatorSet, steps: Sequence[CheckpointStep]
) -> TrustedCheckpoint:
    """Follow ML-DSA-65 checkpoints alone from `voting_set`, which is trusted to vote in `first_epoch`.

    Each must be of the next epoch, for that epoch's last height, signed by more than 2/3 of the set that the one
    before handed over to. Raises `LightBlockRefused`. A checkpoint says nothing of time: whoever holds keys that
    left the set long ago can sign another chain, so the first set must be trusted for a reason of its own.
    """
    if not steps:
        raise LightBlockRefused("steps", "at least one checkpoint", "none")
    for epoch, step in enumerate(steps, first_epoch):
        try:
            checkpoint = decode_checkpoint(step.checkpoint)
            next_set = decode_validator_set(step.next_set)
        except DecodeError as error:
            raise LightBlockRefused("encoding", error.expected, error.found) from error
        _expect("epoch", epoch, checkpoint.epoch)
        _expect("height", last_height(epoch, epoch_length), checkpoint.height)
        _expect("next_set", checkpoint.next_set_hash.hex(), next_set.hash.hex())
        try:
            verify_checkpoint(checkpoint, voting_set, genesis_hash, ml_dsa.verify)
        except CertificateError as error:
            raise LightBlockRefused(f"checkpoint_{error.rule}", error.expected, error.found) from error
        voting_set = next_set
    return TrustedCheckpoint(checkpoint.epoch, checkpoint.height, checkpoint.block_hash, voting_set)


# --- Helpers -------------------------------------------------------------------------------------------------


def _check_branches(root: bytes, proof: PayloadProof) -> None:
    if not 0 <= proof.time_ms <= MAX_TIME_MS:
        raise LightBlockRefused("time", f"0 to {MAX_TIME_MS}", f"{proof.time_ms}")
    values = (proof.time_ms.to_bytes(8, "big"), proof.voting_set_hash, proof.next_set_hash)
    if len(proof.branches) != len(PROVEN_FIELDS):
        raise LightBlockRefused("branch", f"{len(PROVEN_FIELDS)} branches", f"{len(proof.branches)}")
    for name, value, branch in zip(PROVEN_FIELDS, values, proof.branches, strict=True):
        if len(branch) != _BRANCH_LENGTH or not verify_branch(root, value, LEAF_NAMES.index(name), branch):
            raise LightBlockRefused("branch", f"a proof of {name} under {root.hex()}", "another")


def _expect(rule: str, expected: object, found: object) -> None:
    if expected != found:
        raise LightBlockRefused(rule, str(expected), str(found))
