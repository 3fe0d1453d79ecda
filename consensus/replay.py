"""The inputs of a height as log records, and what a validator goes on with after it has read its log again.

Recovery runs the logged inputs through the same `step` that took them the first time. What that step asked for and
what had been done before the crash is left out; the rest is done now. Signatures need no care here: the signing
history returns what it released for the same bytes. Layout: docs/specification.md, "Consensus log".
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import assert_never

from consensus.certificate import decode_certificate, encode_certificate
from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    BuildBlock,
    CertificateReceived,
    CheckBlock,
    CommitBlock,
    HeightContext,
    HeightState,
    Input,
    Output,
    ProposalReceived,
    ReportEvidence,
    ScheduleTimeout,
    ShareQuorum,
    SignProposal,
    SignVote,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
    begin_height,
    step,
)
from consensus.params import MAX_ROUND, MAX_TIME_MS
from consensus.round_machine import TimeoutKind
from consensus.votes import PROPOSAL_BYTES, VOTE_BYTES, decode_proposal, decode_vote, encode_proposal, encode_vote
from consensus.wire import DecodeError, WireReader, encode_unsigned, exact_bytes


class _Kind(IntEnum):
    """Of a record."""

    START = 1
    PROPOSAL = 2
    VOTE = 3
    CERTIFICATE = 4
    BUILT = 5
    CHECKED = 6
    TIMEOUT = 7


def encode_input(event: Input) -> bytes:
    """Kind 1, then its fields: times 8, rounds 4, hashes 32, flags 1; votes and the like as they travel."""
    match event:
        case VoteReceived(vote):
            return bytes([_Kind.VOTE]) + encode_vote(vote)
        case TimeoutElapsed(kind, round_):
            return bytes([_Kind.TIMEOUT, kind]) + encode_unsigned(round_, 4, "round")
        case ProposalReceived(proposal, arrived_ms):
            return bytes([_Kind.PROPOSAL]) + encode_unsigned(arrived_ms, 8, "arrived_ms") + encode_proposal(proposal)
        case BlockChecked(block_hash, is_valid, build_round, time_ms):
            return bytes([_Kind.CHECKED, is_valid]) + _block_fields(block_hash, build_round, time_ms)
        case BlockBuilt(round_, block_hash, time_ms):
            return bytes([_Kind.BUILT]) + _block_fields(block_hash, round_, time_ms)
        case CertificateReceived(certificate):
            return bytes([_Kind.CERTIFICATE]) + encode_certificate(certificate)
        case StartHeight():
            return bytes([_Kind.START])
        case _:
            assert_never(event)


def decode_input(record: bytes) -> Input:
    """The inverse of `encode_input`; `DecodeError` for anything else."""
    reader = WireReader(record)
    kind = reader.unsigned(1, "kind")
    event: Input
    match kind:
        case _Kind.START:
            event = StartHeight()
        case _Kind.PROPOSAL:
            arrived_ms = reader.unsigned(8, "arrived_ms", maximum=MAX_TIME_MS)
            event = ProposalReceived(decode_proposal(reader.take(PROPOSAL_BYTES, "proposal")), arrived_ms)
        case _Kind.VOTE:
            event = VoteReceived(decode_vote(reader.take(VOTE_BYTES, "vote")))
        case _Kind.CERTIFICATE:
            event = CertificateReceived(decode_certificate(reader.rest()))
        case _Kind.BUILT:
            block_hash, round_, time_ms = _take_block_fields(reader)
            event = BlockBuilt(round_, block_hash, time_ms)
        case _Kind.CHECKED:
            is_valid = bool(reader.unsigned(1, "is_valid", maximum=1))
            block_hash, build_round, time_ms = _take_block_fields(reader)
            event = BlockChecked(block_hash, is_valid, build_round, time_ms)
        case _Kind.TIMEOUT:
            event = TimeoutElapsed(_take_timeout_kind(reader), reader.unsigned(4, "round", maximum=MAX_ROUND))
        case _:
            raise DecodeError("kind", "1 to 7", str(kind))
    reader.finish()
    return event


def replay(context: HeightContext, events: Sequence[Input]) -> tuple[HeightState, tuple[Output, ...]]:
    """The state after `events`, and what is still to be done for it, in order."""
    state = begin_height(context)
    asked: list[Output] = []
    for event in events:
        state, outputs = step(state, event)
        asked += outputs
    return state, _unfinished(state, events, asked)


def _unfinished(state: HeightState, events: Sequence[Input], asked: Iterable[Output]) -> tuple[Output, ...]:
    built = {event.round_ for event in events if isinstance(event, BlockBuilt)}
    elapsed = {(event.kind, event.round_) for event in events if isinstance(event, TimeoutElapsed)}
    return tuple(output for output in asked if _is_unfinished(state, output, built, elapsed))


def _is_unfinished(
    state: HeightState, output: Output, built_rounds: set[int], elapsed: set[tuple[TimeoutKind, int]]
) -> bool:
    """What concerns a round that is over is of no use any more; what came back as an input is done.

    Evidence and the commit come back as nothing: whoever takes them bears to be told again.
    """
    current = state.rounds.round_
    is_decided = state.decision is not None
    match output:
        case ReportEvidence() | CommitBlock():
            return True
        case SignVote(vote_type, round_):  # also of use when all is decided: a certificate holds every precommit
            return round_ == current and state.context.own_index not in state.tally.ballots(round_, vote_type).votes
        case BuildBlock(round_):
            return not is_decided and round_ == current and round_ not in built_rounds
        case CheckBlock(block_hash):
            return not is_decided and state.blocks[block_hash] is None
        case SignProposal(round_):
            return not is_decided and round_ == current and round_ not in state.proposals
        case ScheduleTimeout(kind, round_):
            return not is_decided and round_ == current and (kind, round_) not in elapsed
        case ShareQuorum():
            return not is_decided
        case _:
            assert_never(output)


def _block_fields(block_hash: bytes, round_: int, time_ms: int) -> bytes:
    return (
        exact_bytes(block_hash, 32, "block_hash")
        + encode_unsigned(round_, 4, "round")
        + encode_unsigned(time_ms, 8, "time_ms")
    )


def _take_block_fields(reader: WireReader) -> tuple[bytes, int, int]:
    return (
        reader.take(32, "block_hash"),
        reader.unsigned(4, "round"),
        reader.unsigned(8, "time_ms", maximum=MAX_TIME_MS),
    )


def _take_timeout_kind(reader: WireReader) -> TimeoutKind:
    code = reader.unsigned(1, "timeout")
    try:
        return TimeoutKind(code)
    except ValueError as error:
        raise DecodeError("timeout", "1 to 3", str(code)) from error
