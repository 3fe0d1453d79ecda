"""Reading the committed chain from the database: blocks, receipts, certificates, validator sets, the head.

A :class:`Ledger` looks through one reader, the store itself or a snapshot of it, and therefore at one moment.
What is not there is None where a caller may ask for anything, and DatabaseDamaged where the chain's own records
say that it must exist. The state is read by the state package, not here.
"""

from dataclasses import dataclass

from astralink_node.chain.messages import BlockRecord, ReceiptRecord, TouchedAccount
from astralink_node.chain.protocol_messages import ProtocolCall
from astralink_node.chain.records import (
    damaged,
    decode_body,
    decode_head,
    decode_position,
    decode_priorities,
    decode_protocol_log,
    decode_receipts,
    decode_touched,
)
from astralink_node.evm.blocks import Block, Header, MalformedBlock, SealedBlock, decode_header, ethereum_block_rlp
from astralink_node.storage import keys
from astralink_node.storage.store import Reader
from consensus.checkpoint import NO_CHECKPOINT_EPOCH, Checkpoint, decode_checkpoint
from consensus.payload import ConsensusPayload, decode_payload
from consensus.proposer_selection import Priorities
from consensus.validator_set import ValidatorSet, decode_validator_set
from consensus.wire import DecodeError


@dataclass(frozen=True, slots=True)
class Head:
    height: int
    block_hash: bytes


class Ledger:
    __slots__ = ("_reader",)

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    # --- The head ------------------------------------------------------------------------------------------------

    def head(self) -> Head:
        raw = self._reader.get(keys.HEAD_KEY)
        if raw is None:
            raise damaged("the head pointer", "missing")
        return Head(*decode_head(raw))

    def oldest_state_height(self) -> int:
        """The lowest height whose state can still be read."""
        raw = self._reader.get(keys.OLDEST_STATE_KEY)
        return 0 if raw is None else keys.decode_height(raw)

    def oldest_block_height(self) -> int:
        """The lowest height above genesis whose block can be read; 0 if all can."""
        raw = self._reader.get(keys.OLDEST_BLOCK_KEY)
        return 0 if raw is None else keys.decode_height(raw)

    def head_touched(self) -> tuple[int, tuple[TouchedAccount, ...]]:
        """(height, accounts) of the block that was committed last."""
        raw = self._reader.get(keys.HEAD_TOUCHED_KEY)
        return (0, ()) if raw is None else decode_touched(raw)

    # --- Blocks --------------------------------------------------------------------------------------------------

    def height_of(self, block_hash: bytes) -> int | None:
        raw = self._reader.get(keys.height_key(block_hash))
        return None if raw is None else keys.decode_height(raw)

    def raw_header(self, height: int) -> bytes | None:
        return self._reader.get(keys.header_key(height))

    def header(self, height: int) -> Header:
        """Of a height that is known to be committed."""
        raw = self._existing(keys.header_key(height), f"header of block {height}")
        try:
            header = decode_header(raw)
        except MalformedBlock as error:
            raise damaged(f"header of block {height}", str(error)) from error
        if header.number != height:
            raise damaged(f"header of block {height}", f"it is block {header.number}'s")
        return header

    def raw_payload(self, height: int) -> bytes:
        return self._existing(keys.payload_key(height), f"consensus payload of block {height}")

    def payload(self, height: int) -> ConsensusPayload:
        try:
            return decode_payload(self.raw_payload(height))
        except DecodeError as error:
            raise damaged(f"consensus payload of block {height}", str(error)) from error

    def body(self, height: int) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """(raw transactions, senders)."""
        return decode_body(self.raw_body(height), height)

    def raw_body(self, height: int) -> bytes:
        """As chain.records encodes it, for whoever needs little of it."""
        return self._existing(keys.body_key(height), f"body of block {height}")

    def raw_receipts(self, height: int) -> bytes:
        """Likewise."""
        return self._existing(keys.receipts_key(height), f"receipts of block {height}")

    def sealed_block(self, height: int) -> SealedBlock:
        return SealedBlock(Block(self.header(height), self.body(height)[0]), self.raw_payload(height))

    def block_record(self, height: int) -> BlockRecord:
        header = self.header(height)
        raw_transactions, senders = self.body(height)
        return BlockRecord(
            block_hash=header.hash,
            raw_header=self._existing(keys.header_key(height), f"header of block {height}"),
            raw_transactions=raw_transactions,
            senders=senders,
            raw_payload=self.raw_payload(height),
            size_bytes=len(ethereum_block_rlp(Block(header, raw_transactions))),
        )

    def receipts(self, height: int) -> tuple[ReceiptRecord, ...]:
        return decode_receipts(self.raw_receipts(height), height)

    def protocol_log(self, height: int) -> tuple[ProtocolCall, ...]:
        """What the protocol's own calls in the block emitted, and which failed."""
        raw = self._reader.get(keys.protocol_log_key(height))
        return () if raw is None else decode_protocol_log(raw, height)

    def certificate(self, height: int) -> bytes:
        """The commit certificate that this node saw, encoded; empty at genesis."""
        if height == 0:
            return b""
        return self._existing(keys.certificate_key(height), f"certificate of block {height}")

    def transaction_position(self, transaction_hash: bytes) -> tuple[int, int] | None:
        """(height, index in the block) of a committed transaction."""
        raw = self._reader.get(keys.transaction_key(transaction_hash))
        return None if raw is None else decode_position(raw)

    # --- Who votes and proposes ----------------------------------------------------------------------------------

    def validator_set(self, height: int) -> ValidatorSet:
        """The set that votes on `height`, at most two above the head: the nearest entry at or below it."""
        try:
            return decode_validator_set(self.raw_validator_set(height))
        except DecodeError as error:
            raise damaged(f"validator set of height {height}", str(error)) from error

    def raw_validator_set(self, height: int) -> bytes:
        """The set that votes on `height`, encoded."""
        start, stop = keys.validator_set_key(0), keys.validator_set_key(height + 1)
        for _, raw in self._reader.iterate(start, stop, reverse=True):
            return raw
        raise damaged(f"validator set of height {height}", "missing")

    def priorities(self, height: int) -> Priorities:
        """The proposer priorities before `height`, at most one above the head."""
        raw = self._existing(keys.priorities_key(height), f"proposer priorities before height {height}")
        return decode_priorities(raw, height)

    def has_priorities(self, height: int) -> bool:
        """Whether the priorities before `height` are still there: they go with the history."""
        return self._reader.get(keys.priorities_key(height)) is not None

    def has_certified(self, height: int) -> bool:
        """Whether header, payload and certificate of a height are here; of most below a snapshot they are not."""
        parts = (keys.header_key(height), keys.payload_key(height), keys.certificate_key(height))
        return all(self._reader.get(key) is not None for key in parts)

    def set_heights(self, first: int, last: int) -> tuple[int, ...]:
        """From which heights on the sets voted that voted anywhere between `first` and `last`."""
        heights: list[int] = []
        for key, _ in self._reader.iterate(keys.validator_set_key(0), keys.validator_set_key(last + 1), reverse=True):
            heights.append(keys.decode_height(key[len(keys.VALIDATOR_SETS) :]))
            if heights[-1] <= first:
                break
        return tuple(reversed(heights))

    # --- Quantum-safe checkpoints --------------------------------------------------------------------------------

    def latest_checkpoint_epoch(self) -> int:
        """Of the checkpoints that committed blocks carry; -1 before the first."""
        for key, _ in self._reader.iterate(*keys.prefix_range(keys.CHECKPOINTS), reverse=True):
            return keys.checkpoint_epoch(key)
        return NO_CHECKPOINT_EPOCH

    def checkpoint_height(self, epoch: int) -> int | None:
        """The block that carries the epoch's checkpoint."""
        raw = self._reader.get(keys.checkpoint_key(epoch))
        return None if raw is None else keys.decode_height(raw)

    def latest_checkpoint_epoch_at(self, height: int) -> int:
        """Of the checkpoints that blocks up to `height` carry; -1 before the first."""
        for key, raw_height in self._reader.iterate(*keys.prefix_range(keys.CHECKPOINTS), reverse=True):
            if keys.decode_height(raw_height) <= height:
                return keys.checkpoint_epoch(key)
        return NO_CHECKPOINT_EPOCH

    def checkpoint_carried_by(self, height: int) -> bytes:
        """The newest checkpoint that blocks up to `height` carry, encoded; empty before the first."""
        epoch = self.latest_checkpoint_epoch_at(height)
        carrier = self.checkpoint_height(epoch) if epoch >= 0 else None
        return b"" if carrier is None else self.raw_checkpoint(carrier)

    def raw_checkpoint(self, height: int) -> bytes:
        """The checkpoint that the block at an indexed height carries; where a snapshot was imported, the newest."""
        carried = self.payload(height).checkpoint
        return carried or self._reader.get(keys.IMPORTED_CHECKPOINT_KEY) or b""

    def carried_checkpoint(self, height: int) -> Checkpoint | None:
        """The checkpoint that a committed block carries."""
        encoded = self.payload(height).checkpoint
        if not encoded:
            return None
        try:
            return decode_checkpoint(encoded)
        except DecodeError as error:
            raise damaged(f"checkpoint in block {height}", str(error)) from error

    def _existing(self, key: bytes, what: str) -> bytes:
        value = self._reader.get(key)
        if value is None:
            raise damaged(what, "missing")
        return value
