"""A simulated validator's disk: what is synced survives a crash, what is not may survive, or half of it.

The log keeps inputs as values and turns them into bytes when a crash asks which bytes survived: they are immutable,
and encoding each at once would double the time of a run. Frames carry length and check sum, so that reading stops at
a torn tail, as the node's own log does.
"""

from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from astralink_node.validator.signing_rules import ChainHistory
from consensus.certificate import Certificate
from consensus.height_machine import Input
from consensus.replay import decode_input, encode_input
from tests.simulation.blocks import GENESIS, Block

_FRAME_HEAD_BYTES = 8


class Log:
    """The inputs of one height, in order, and how many are synced."""

    def __init__(self, height: int) -> None:
        self.height = height
        self._inputs: list[Input] = []
        self._synced = 0

    def append(self, event: Input) -> None:
        self._inputs.append(event)

    def sync(self) -> None:
        self._synced = len(self._inputs)

    def read(self) -> list[Input]:
        return list(self._inputs)

    def lose_tail(self, chance: Random) -> int:
        """A crash: of the bytes after the last sync any number survive. Returns how many whole inputs are gone."""
        image = b"".join(_frame(encode_input(event)) for event in self._inputs)
        synced = len(b"".join(_frame(encode_input(event)) for event in self._inputs[: self._synced]))
        survived = synced + chance.randint(0, len(image) - synced)
        before = len(self._inputs)
        self._inputs = [decode_input(record) for record in _records(image[:survived])]
        self._synced = len(self._inputs)
        return before - len(self._inputs)


@dataclass(frozen=True, slots=True)
class Decided:
    block: Block
    certificate: Certificate


@dataclass(slots=True)
class Disk:
    """All that outlives a crash."""

    history: ChainHistory = field(default_factory=lambda: ChainHistory(floor=1))
    """In a folder of its own: wiping the chain's data leaves it alone."""
    chain: list[Decided] = field(default_factory=list)
    """The database: height h at index h - 1."""
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    """Raw blocks of the height that is worked on."""
    log: Log = field(default_factory=lambda: Log(1))

    @property
    def head(self) -> Block:
        return self.chain[-1].block if self.chain else GENESIS

    def commit(self, decided: Decided) -> None:
        """One synced batch."""
        self.chain.append(decided)

    def begin_log(self) -> None:
        self.log = Log(len(self.chain) + 1)
        self.bodies = {}

    def wipe(self) -> None:
        """The chain's data is gone, the signing history is not."""
        self.chain = []
        self.begin_log()


def _frame(record: bytes) -> bytes:
    return len(record).to_bytes(4, "big") + crc32(record).to_bytes(4, "big") + record


def _records(image: bytes) -> list[bytes]:
    """The whole frames from the start on."""
    records = []
    at = 0
    while at + _FRAME_HEAD_BYTES <= len(image):
        length, sum_ = int.from_bytes(image[at : at + 4], "big"), int.from_bytes(image[at + 4 : at + 8], "big")
        record = image[at + _FRAME_HEAD_BYTES : at + _FRAME_HEAD_BYTES + length]
        if len(record) < length or crc32(record) != sum_:
            break
        records.append(record)
        at += _FRAME_HEAD_BYTES + length
    return records
