"""Whether a range of blocks, given by a peer, is what was decided after a block that is final here. Pure but for BLS.

Everything is judged before anything is executed: heights, parents, bodies against headers, the sets that voted, and
all certificates in one pairing product. What holds up to the first fault is kept; the fault convicts the sender.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from astralink_node.crypto import bls
from astralink_node.evm.blocks import MalformedBlock, SealedBlock, decode_block, encode_header
from astralink_node.evm.transactions import InvalidTransaction, decode_transaction, recover_sender
from astralink_node.services.gossip_judge import foreign_part
from astralink_node.services.sync_offences import SyncOffence
from consensus.certificate import Certificate, CertificateError, VerifyAggregate, decode_certificate, verify_commit
from consensus.forged_header import ForgedHeader
from consensus.payload import decode_payload, payload_root
from consensus.sync_wire import WireBlock
from consensus.validator_set import ValidatorSet
from consensus.wire import DecodeError


@dataclass(frozen=True, slots=True)
class DecidedBlock:
    """A final block: its certificate holds, and its header commits to its body."""

    height: int
    block_hash: bytes
    raw_block: bytes
    certificate: bytes
    senders: tuple[bytes, ...] = ()
    """Of its transactions, where they were recovered already: execution has that much less to do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is final here, and who votes after it."""

    head_height: int
    head_hash: bytes
    voting_set: ValidatorSet
    """At the height after the head."""
    next_set: ValidatorSet
    """At the height after that."""
    genesis_hash: bytes
    trusted: tuple[int, bytes] | None = None
    """A height and the hash of its block, as the operator knows it: another block there is a fork's."""


@dataclass(frozen=True, slots=True)
class Judgement:
    blocks: tuple[DecidedBlock, ...]
    """The first ones, as far as they hold, or as far as it is known who voted: later ones are judged later."""
    offence: SyncOffence | None = None
    detail: str = ""
    suspect: ForgedHeader | None = None
    """A block on another parent than the one before it. Its certificate is not verified."""


class _Fault(Exception):
    def __init__(self, offence: SyncOffence, detail: str, suspect: ForgedHeader | None = None) -> None:
        super().__init__(detail)
        self.offence = offence
        self.detail = detail
        self.suspect = suspect


@dataclass(frozen=True, slots=True)
class _Checked:
    block: DecidedBlock
    certificate: Certificate
    voting_set: ValidatorSet
    next_set_hash: bytes
    sealed: SealedBlock


def judge_range(standing: Standing, blocks: Sequence[WireBlock]) -> Judgement:
    """Blocks from the height after the head on. Verifying takes about a millisecond each: call off-loop."""
    statements: list[bls.Statement] = []

    def note(keys: Sequence[bytes], message: bytes, signature: bytes) -> bool:
        statements.append((keys, message, signature))
        return True

    known = {one.hash: one for one in (standing.voting_set, standing.next_set)}
    checked: list[_Checked] = []
    parent_hash, announced = standing.head_hash, standing.voting_set.hash
    fault: _Fault | None = None
    for height, wire in enumerate(blocks, standing.head_height + 1):
        voting_set = known.get(announced)
        if voting_set is None:
            break  # elected by a block of this range: known once that is executed
        try:
            one = _check(wire, height, parent_hash, voting_set)
            _check_trusted(one.block, standing.trusted)
            _commits_to(one, standing.genesis_hash, note)
        except _Fault as found:
            fault = found
            break
        checked.append(one)
        parent_hash, announced = one.block.block_hash, one.next_set_hash
    if checked and not bls.verify_statements(statements):
        for index, one in enumerate(checked):
            try:
                _commits_to(one, standing.genesis_hash, bls.fast_aggregate_verify)
            except _Fault as found:
                checked, fault = checked[:index], found
                break
    # A certified header's gas limit says how many transactions there can be; another's could say anything.
    for index, one in enumerate(checked):
        foreign = foreign_part(one.sealed)
        if foreign:
            detail = f"block {one.block.height}: its header is of other {foreign}"
            checked, fault = checked[:index], _Fault(SyncOffence.WRONG_BLOCK, detail)
            break
    kept = tuple(replace(one.block, senders=_senders(one.sealed.block.raw_transactions)) for one in checked)
    return Judgement(kept) if fault is None else Judgement(kept, fault.offence, fault.detail, fault.suspect)


def _check(wire: WireBlock, height: int, parent_hash: bytes, voting_set: ValidatorSet) -> _Checked:
    """Everything but signatures, transactions and withdrawals."""
    try:
        sealed = decode_block(wire.raw_block)
        certificate = decode_certificate(wire.certificate)
    except (MalformedBlock, DecodeError) as error:
        raise _Fault(
            SyncOffence.MALFORMED, f"block {height}: expected {error.expected}, found {error.found}"
        ) from error
    header = sealed.block.header
    if header.number != height:
        raise _Fault(SyncOffence.OTHER_HEIGHTS, f"expected block {height}, found block {header.number}")
    if header.parent_hash != parent_hash:
        expected, found = parent_hash.hex(), header.parent_hash.hex()
        detail = f"block {height}: expected parent {expected}, found {found}"
        raise _Fault(SyncOffence.WRONG_BLOCK, detail, ForgedHeader(encode_header(header), certificate))
    try:
        payload = decode_payload(sealed.raw_payload)
    except DecodeError as error:
        raise _Fault(SyncOffence.WRONG_BLOCK, f"block {height}: its payload does not decode: {error}") from error
    if payload_root(payload) != header.parent_beacon_block_root:
        raise _Fault(SyncOffence.WRONG_BLOCK, f"block {height}: its header is of another payload")
    if payload.voting_set_hash != voting_set.hash:
        expected, found = voting_set.hash.hex(), payload.voting_set_hash.hex()
        raise _Fault(SyncOffence.WRONG_BLOCK, f"block {height}: expected voting set {expected}, found {found}")
    block = DecidedBlock(height, header.hash, wire.raw_block, wire.certificate)
    return _Checked(block, certificate, voting_set, payload.next_set_hash, sealed)


def _senders(raw_transactions: Sequence[bytes]) -> tuple[bytes, ...]:
    """None at all if one cannot be recovered: what is wrong with the block is for execution to say."""
    try:
        return tuple(recover_sender(decode_transaction(raw)) for raw in raw_transactions)
    except InvalidTransaction:
        return ()


def _check_trusted(block: DecidedBlock, trusted: tuple[int, bytes] | None) -> None:
    if trusted is not None and block.height == trusted[0] and block.block_hash != trusted[1]:
        expected, found = trusted[1].hex(), block.block_hash.hex()
        raise _Fault(SyncOffence.WRONG_BLOCK, f"block {block.height}: expected the trusted {expected}, found {found}")


def _commits_to(one: _Checked, genesis_hash: bytes, verify: VerifyAggregate) -> None:
    try:
        verify_commit(one.certificate, one.block.height, one.block.block_hash, one.voting_set, genesis_hash, verify)
    except CertificateError as error:
        raise _Fault(SyncOffence.WRONG_CERTIFICATE, f"block {one.block.height}: {error}") from error
