"""py-evm, driven by our pipeline: the state it reads, the loop that runs its opcodes, and Osaka's addition.

py-evm supplies opcodes, gas and message rules up to Prague; this module is the only place where its classes are
subclassed. :meth:`Computation.run_code` is the seam at which a translator may later run code in another way.
Deviations from py-evm, each of them a correction or a bound: the root call is recognised by its depth, not by
its sender; initcode is charged with the transaction's intrinsic gas (EIP-3860); storage alone makes a creation
collide (EIP-7610); a finished child call is folded into its caller and dropped, so that memory follows the
call depth and not the number of calls; jump destinations are found without recursion.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final, Protocol

from eth.abc import ComputationAPI, MessageAPI
from eth.exceptions import Halt, OutOfGas, VMError
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.opcodes import PRAGUE_OPCODES
from eth.vm.forks.prague.state import PragueState
from eth.vm.gas_meter import GasMeter
from eth.vm.logic.invalid import InvalidOpcode
from eth.vm.memory import Memory
from eth.vm.opcode import as_opcode
from eth.vm.stack import Stack

from astralink_node.evm.code import Code
from astralink_node.evm.fee_rules import blob_base_fee
from astralink_node.evm.fork_rules import ForkRules
from astralink_node.evm.precompiles.registry import precompiles_for
from astralink_node.state.overlay import Overlay
from astralink_node.types import Address, Hash32

CALL_DEPTH_LIMIT: Final = 1024
PYTHON_FRAMES_PER_CALL: Final = 12
"""CREATE2 needs most: its three layers of opcode, two of child computation, three of message, and the loop."""
RECURSION_LIMIT: Final = CALL_DEPTH_LIMIT * PYTHON_FRAMES_PER_CALL + 4096
"""Python frames of a call as deep as the EVM allows, on top of whatever surrounds it. CPython 3.11 keeps frames
of Python functions on the heap, so depth costs no C stack as long as no C function sits between two of them."""

OPCODES_PER_CHECK: Final = 1024
"""How many opcodes one call runs between two looks at the interrupt."""

CLZ_OPCODE: Final = 0x1E


class BlockEnvironment(Protocol):
    """What opcodes read of the block."""

    @property
    def coinbase(self) -> Address: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def number(self) -> int: ...
    @property
    def gas_limit(self) -> int: ...
    @property
    def base_fee_per_gas(self) -> int: ...
    @property
    def prev_randao(self) -> Hash32: ...
    @property
    def excess_blob_gas(self) -> int: ...
    def ancestor_hash(self, number: int) -> bytes:
        """Hash of one of the last 256 blocks (the caller checks the range); empty if it is unknown."""
        ...


class Tracer(Protocol):
    """Sees every call begin and end, and every opcode before and after it runs."""

    def enter(self, computation: Computation) -> None: ...
    def leave(self) -> None: ...
    def before_opcode(self, computation: Computation, program_counter: int, opcode: int) -> None: ...
    def after_opcode(self, computation: Computation, error: VMError | None) -> None: ...


class ExecutionContext:
    """The block, under the names that py-evm's state uses."""

    __slots__ = (
        "base_fee_per_gas",
        "block_number",
        "chain_id",
        "coinbase",
        "difficulty",
        "excess_blob_gas",
        "gas_limit",
        "mix_hash",
        "timestamp",
    )

    def __init__(self, block: BlockEnvironment, chain_id: int) -> None:
        self.coinbase = block.coinbase
        self.timestamp = block.timestamp
        self.block_number = block.number
        self.difficulty = 0
        self.mix_hash = block.prev_randao
        self.gas_limit = block.gas_limit
        self.base_fee_per_gas = block.base_fee_per_gas
        self.excess_blob_gas = block.excess_blob_gas
        self.chain_id = chain_id


class TransactionContext:
    """What opcodes read of the transaction."""

    __slots__ = ("blob_versioned_hashes", "gas_price", "origin")

    def __init__(self, gas_price: int, origin: Address) -> None:
        self.gas_price = gas_price
        self.origin = origin
        self.blob_versioned_hashes: tuple[Hash32, ...] = ()


# State methods that py-evm calls by these names and that an overlay has under the same ones.
_OVERLAY_METHODS: Final = (
    "get_storage",
    "set_storage",
    "delete_storage",
    "delete_account",
    "get_balance",
    "set_balance",
    "get_nonce",
    "set_nonce",
    "increment_nonce",
    "get_code",
    "set_code",
    "get_code_hash",
    "delete_code",
    "account_exists",
    "touch_account",
    "account_is_empty",
    "is_storage_warm",
    "mark_storage_warm",
    "mark_address_warm",
)


class ExecutionState(PragueState):
    """py-evm's view of one block's overlay; one instance lives as long as the block's execution."""

    def __init__(self, overlay: Overlay, block: BlockEnvironment, chain_id: int, fork: ForkRules) -> None:
        self.overlay: Overlay = overlay
        self._account_db: Overlay = overlay
        self._block = block
        self.execution_context = ExecutionContext(block, chain_id)
        self.computation_class = computation_class(fork)
        self.precompile_addresses: frozenset[bytes] = frozenset(self.computation_class.get_precompiles())
        self.logs: list[tuple[Address, tuple[int, ...], bytes]] = []
        """Of the running root call, in order; a reverted call's logs are cut off again."""
        self.root_refund = 0
        self.accounts_to_delete: list[Address] = []
        """Of the last root call, if it succeeded."""
        self.tracer: Tracer | None = None
        self.interrupt: Callable[[], None] | None = None
        """Called now and then while code runs. What it raises, which is no VMError, ends all and voids the state."""
        for name in _OVERLAY_METHODS:
            setattr(self, name, getattr(overlay, name))
        self.get_transient_storage = overlay.get_transient
        self.set_transient_storage = overlay.set_transient
        self._warm_in_overlay = overlay.is_address_warm

    def begin_message(self) -> None:
        """Before a root call. The logs of the one before stay with whoever took them."""
        self.logs = []
        self.root_refund = 0
        self.accounts_to_delete = []

    def end_message(self, computation: Computation) -> None:
        if computation.failure is None:
            self.root_refund = computation.get_gas_refund()
            self.accounts_to_delete = computation.accounts_to_delete

    def snapshot(self) -> tuple[int, int]:
        return self._account_db.record(), len(self.logs)

    def revert(self, snapshot: tuple[int, int]) -> None:
        checkpoint, log_count = snapshot
        self._account_db.discard(checkpoint)
        del self.logs[log_count:]

    def commit(self, snapshot: tuple[int, int]) -> None:
        self._account_db.commit(snapshot[0])

    def has_code_or_nonce(self, address: Address) -> bool:
        """Whether a creation collides: asked for nothing else, so storage counts too (EIP-7610)."""
        overlay = self._account_db
        return overlay.account_has_code_or_nonce(address) or overlay.account_has_storage(address)

    def is_address_warm(self, address: Address) -> bool:
        return self._warm_in_overlay(address) or address in self.precompile_addresses

    def get_ancestor_hash(self, block_number: int) -> bytes:
        number = self._block.number
        if not max(number - 256, 0) <= block_number < number:
            return b""
        return self._block.ancestor_hash(block_number)

    @property
    def blob_base_fee(self) -> int:
        return blob_base_fee(self.execution_context.excess_blob_gas)


class Meter(GasMeter):
    """py-evm's gas meter without its debug log. Refunds may go below zero within a call (EIP-2200)."""

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


class Computation(PragueComputation):
    """One message call. Fork classes made by :func:`computation_class` give it opcodes and precompiles."""

    dispatch: ClassVar[tuple[tuple[int, str, Callable[[Any], None]], ...]]
    """By opcode: gas charged beforehand, mnemonic, what to call."""

    state: ExecutionState
    code: Code
    _error: VMError | None

    def __init__(self, state: ExecutionState, message: MessageAPI, transaction_context: TransactionContext) -> None:
        self.state = state
        self.msg = message
        self.transaction_context = transaction_context
        self.code = Code(message.code)
        self.accounts_to_delete: list[Address] = []
        self.beneficiaries: list[Address] = []
        self._gas_meter = meter = Meter(message.gas)
        self._memory = Memory()
        self._stack = stack = Stack()
        self.consume_gas = meter.consume_gas
        self.stack_pop_ints = stack.pop_ints
        self.stack_pop_bytes = stack.pop_bytes
        self.stack_pop_any = stack.pop_any
        self.stack_pop1_int = stack.pop1_int
        self.stack_pop1_bytes = stack.pop1_bytes
        self.stack_pop1_any = stack.pop1_any
        self.stack_push_int = stack.push_int
        self.stack_push_bytes = stack.push_bytes

    @property
    def is_origin_computation(self) -> bool:
        return bool(self.msg.depth == 0)

    @classmethod
    def apply_computation(
        cls,
        state: ExecutionState,
        message: MessageAPI,
        transaction_context: TransactionContext,
        parent_computation: Computation | None = None,
    ) -> Computation:
        """Run a message's precompile or code; the caller reverts the state if the result is an error."""
        computation = cls(state, message, transaction_context)
        computation.contracts_created = set() if parent_computation is None else parent_computation.contracts_created
        if message.is_create:
            computation.contracts_created.add(message.storage_address)
        if state.tracer is not None:
            state.tracer.enter(computation)
        try:
            precompile = cls._precompiles.get(message.code_address)
            if precompile is None:
                computation.run_code()
            elif not message.is_delegation:
                precompile(computation)
        except VMError as error:
            computation.fail(error)
        if state.tracer is not None:
            state.tracer.leave()
        return computation

    def run_code(self) -> None:
        """Run this call's code from its program counter to its end. Raises VMError where the call fails.

        The one place where code is run: a translator overrides it, a tracer takes the slower loop below it.
        """
        state = self.state
        if state.tracer is not None:
            self._run_traced(state.tracer)
            return
        code, meter, dispatch = self.code, self._gas_meter, self.dispatch
        padded, interrupt = code.padded, state.interrupt
        try:
            while True:
                if interrupt is not None:
                    interrupt()
                for _ in _CHECK_PERIOD:
                    position = code.program_counter
                    code.program_counter = position + 1
                    gas, mnemonic, run = dispatch[padded[position]]
                    remaining = meter.gas_remaining - gas
                    if remaining < 0:
                        raise OutOfGas(mnemonic)
                    meter.gas_remaining = remaining
                    run(self)
        except Halt:
            pass

    def _run_traced(self, tracer: Tracer) -> None:
        code, interrupt = self.code, self.state.interrupt
        while True:
            if interrupt is not None:
                interrupt()
            position = code.program_counter
            opcode = code.padded[position]
            code.program_counter = position + 1
            gas, mnemonic, run = self.dispatch[opcode]
            tracer.before_opcode(self, position, opcode)
            try:
                self._gas_meter.consume_gas(gas, mnemonic)
                run(self)
            except Halt:
                tracer.after_opcode(self, None)
                return
            except VMError as error:
                tracer.after_opcode(self, error)
                raise
            tracer.after_opcode(self, None)

    @property
    def failure(self) -> VMError | None:
        return self._error

    def fail(self, error: VMError) -> None:
        # The traceback would tie every frame of a deep call into one cycle that only the collector frees.
        error.__traceback__ = error.__context__ = None
        self._error = error
        if error.burns_gas:
            self._gas_meter.gas_remaining = 0
        if error.erases_return_data:
            self.return_data = b""

    def add_child_computation(self, child_computation: Computation) -> None:
        """Set the return data, take over the child's refunds and deletions, and let go of it."""
        child = child_computation
        if child.msg.is_create:
            self.return_data = child.output if child.is_error else b""
        else:
            self.return_data = b"" if child.should_burn_gas else child.output
        if not child.is_error:
            self._gas_meter.gas_refunded += child._gas_meter.gas_refunded
            self.accounts_to_delete.extend(child.accounts_to_delete)

    def register_account_for_deletion(self, beneficiary: Address) -> None:  # noqa: ARG002 (py-evm's signature)
        self.accounts_to_delete.append(self.msg.storage_address)

    def get_gas_refund(self) -> int:
        refund: int = 0 if self._error is not None else self._gas_meter.gas_refunded
        return refund

    @property
    def storage_address(self) -> Address:
        """Whose storage this call reads and writes."""
        return Address(self.msg.storage_address)

    @property
    def gas_left(self) -> int:
        left: int = self._gas_meter.gas_remaining
        return left

    @property
    def refunded(self) -> int:
        """Of this call and those that it has made; may be negative until the root call ends."""
        refunded: int = self._gas_meter.gas_refunded
        return refunded

    @property
    def stack_values(self) -> list[int]:
        return [value if isinstance(value, int) else int.from_bytes(value, "big") for value in self._stack.values]

    @property
    def memory_bytes(self) -> bytes:
        return bytes(self._memory.read_bytes(0, len(self._memory)))

    @property
    def memory_size(self) -> int:
        return len(self._memory)

    def add_log_entry(self, account: Address, topics: tuple[int, ...], data: bytes) -> None:
        self.state.logs.append((account, topics, data))

    @classmethod
    def consume_initcode_gas_cost(cls, computation: ComputationAPI) -> None:
        """Nothing: a creating transaction has paid it as intrinsic gas, and CREATE charges it itself."""


@lru_cache(maxsize=8)
def computation_class(fork: ForkRules) -> type[Computation]:
    """py-evm's Prague computation with this fork's opcodes and precompiles."""
    opcodes = dict(PRAGUE_OPCODES)
    if fork.clz:
        opcodes[CLZ_OPCODE] = as_opcode(logic_fn=count_leading_zeros, mnemonic="CLZ", gas_cost=5)
    members: dict[str, object] = {
        "opcodes": opcodes,
        "dispatch": _dispatch_table(opcodes),
        "_precompiles": precompiles_for(fork.p256verify),
    }
    return type(f"{fork.name}Computation", (Computation,), members)


def count_leading_zeros(computation: ComputationAPI) -> None:
    """EIP-7939: 256 for zero."""
    computation.stack_push_int(256 - computation.stack_pop1_int().bit_length())


def allow_deep_calls() -> None:
    """Raise Python's recursion limit to what a call of depth 1024 needs. It is never lowered."""
    if sys.getrecursionlimit() < RECURSION_LIMIT:
        sys.setrecursionlimit(RECURSION_LIMIT)


_CHECK_PERIOD: Final = range(OPCODES_PER_CHECK)


def _dispatch_table(opcodes: Mapping[int, Any]) -> tuple[tuple[int, str, Callable[[Any], None]], ...]:
    table: list[tuple[int, str, Callable[[Any], None]]] = []
    for value in range(256):
        opcode = opcodes.get(value)
        # SELFDESTRUCT wears a wrapper that prints a deprecation warning.
        opcode = getattr(opcode, "__wrapped__", opcode)
        if opcode is None:
            table.append((0, "INVALID", InvalidOpcode(value).__call__))
        elif hasattr(opcode, "logic_fn"):
            table.append((opcode.gas_cost, opcode.mnemonic, opcode.logic_fn))
        else:
            # Calls and creations charge by themselves. The bound method keeps C frames out of nested calls.
            table.append((0, opcode.mnemonic, opcode.__call__))
    return tuple(table)
