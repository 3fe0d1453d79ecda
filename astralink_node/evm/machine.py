"""Stack, memory, gas meter and message of a call: py-evm's, without the checks that its opcodes make anyway.

Each class has the methods and attributes by which py-evm's opcodes know it. The stack holds unsigned integers
below 2**256 only (py-evm's mixes in byte strings), so that nothing is converted back and forth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from eth.exceptions import FullStack, InsufficientStack, OutOfGas

from astralink_node.types import Address

STACK_LIMIT: Final = 1_024
WORD_BYTES: Final = 32
MEMORY_WORD_GAS: Final = 3
MEMORY_QUADRATIC_DENOMINATOR: Final = 512
BULK_BYTES: Final = 16 * 1024
"""An opcode that hashes, copies or hands on so many is preceded by a look at the interrupt."""
CALL_STIPEND: Final = 2_300
"""Gas that a call gets on top if it moves value; EIP-2200: an SSTORE with no more left fails before it asks for any."""
_ADDRESS_MASK: Final = (1 << 160) - 1


def address_of(word: int) -> Address:
    """As opcodes read an address from the stack: the lower 20 bytes."""
    return Address((word & _ADDRESS_MASK).to_bytes(20, "big"))


class Stack:
    """The last item is the top."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[int] = []

    def push_int(self, value: int) -> None:
        values = self.values
        if len(values) >= STACK_LIMIT:
            raise FullStack("stack limit reached")
        values.append(value)

    def push_bytes(self, value: bytes) -> None:
        self.push_int(int.from_bytes(value, "big"))

    def pop1_int(self) -> int:
        try:
            return self.values.pop()
        except IndexError:
            raise InsufficientStack("wanted 1 stack item, had none") from None

    def pop1_any(self) -> int:
        return self.pop1_int()

    def pop1_bytes(self) -> bytes:
        """Without leading zeros; py-evm's opcodes pad it to what they need."""
        value = self.pop1_int()
        return value.to_bytes((value.bit_length() + 7) >> 3, "big")

    def pop_ints(self, count: int) -> list[int]:
        """The topmost items, the top first."""
        values = self.values
        if count > len(values):
            raise InsufficientStack(f"wanted {count} stack items, had {len(values)}")
        popped = values[: -count - 1 : -1]
        del values[-count:]
        return popped


class Memory:
    """Bytes, always a whole number of words; the computation extends it and charges for that."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content = bytearray()

    def __len__(self) -> int:
        return len(self.content)

    def write(self, start: int, size: int, value: bytes) -> None:
        if size:
            self.content[start : start + size] = value

    def read_bytes(self, start: int, size: int) -> bytes:
        return bytes(self.content[start : start + size])

    def copy(self, destination: int, source: int, size: int) -> None:
        if size:
            self.content[destination : destination + size] = self.content[source : source + size]


class WatchedMemory(Memory):
    """One that calls the interrupt before it reads or writes much: the loop counts opcodes, however long each takes."""

    __slots__ = ("_interrupt",)

    def __init__(self, interrupt: Callable[[], None]) -> None:
        super().__init__()
        self._interrupt = interrupt

    def write(self, start: int, size: int, value: bytes) -> None:
        if size >= BULK_BYTES:
            self._interrupt()
        super().write(start, size, value)

    def read_bytes(self, start: int, size: int) -> bytes:
        if size >= BULK_BYTES:
            self._interrupt()
        return super().read_bytes(start, size)

    def copy(self, destination: int, source: int, size: int) -> None:
        if size >= BULK_BYTES:
            self._interrupt()
        super().copy(destination, source, size)


class Meter:
    """Gas of one call. Refunds may be below zero within a call (EIP-2200)."""

    __slots__ = ("gas_refunded", "gas_remaining", "start_gas")

    def __init__(self, start_gas: int) -> None:
        self.start_gas = start_gas
        self.gas_remaining = start_gas
        self.gas_refunded = 0

    def consume_gas(self, amount: int, reason: str) -> None:
        if amount > self.gas_remaining:
            raise OutOfGas(reason)
        self.gas_remaining -= amount

    def return_gas(self, amount: int) -> None:
        self.gas_remaining += amount

    def refund_gas(self, amount: int) -> None:
        self.gas_refunded += amount


class Message:
    """What a call is asked to do. A creation has an empty ``to`` and its address in ``create_address``."""

    __slots__ = (
        "code",
        "code_address",
        "data",
        "depth",
        "gas",
        "is_create",
        "is_delegation",
        "is_static",
        "sender",
        "should_transfer_value",
        "storage_address",
        "to",
        "value",
    )

    def __init__(
        self,
        gas: int,
        to: bytes,
        sender: Address,
        value: int,
        data: bytes,
        code: bytes,
        depth: int = 0,
        create_address: Address | None = None,
        code_address: bytes | None = None,
        *,
        should_transfer_value: bool = True,
        is_static: bool = False,
        is_delegation: bool = False,
    ) -> None:
        self.gas = gas
        self.to = to
        self.sender = sender
        self.value = value
        self.data = data
        self.code = code
        self.depth = depth
        self.is_create = not to
        self.storage_address = Address(to) if create_address is None else create_address
        self.code_address = to if code_address is None else code_address
        self.should_transfer_value = should_transfer_value
        self.is_static = is_static
        self.is_delegation = is_delegation
        """Whether the code is another account's, by EIP-7702; a precompile's address then runs nothing."""

    @property
    def data_as_bytes(self) -> bytes:
        return self.data


def memory_gas(words: int) -> int:
    """Yellow Paper, C_mem; rounds down."""
    return MEMORY_WORD_GAS * words + words * words // MEMORY_QUADRATIC_DENOMINATOR
