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
from typing import Any, ClassVar, Final

from eth.exceptions import (
    FullStack,
    Halt,
    InsufficientStack,
    InvalidJumpDestination,
    OutOfGas,
    ReservedBytesInCode,
    VMError,
)
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.state import PragueState

from astralink_node.evm.code import Code
from astralink_node.evm.execution_context import BlockEnvironment, ExecutionContext, TransactionContext
from astralink_node.evm.fee_rules import blob_base_fee
from astralink_node.evm.fork_rules import ForkRules
from astralink_node.evm.machine import STACK_LIMIT, Memory, Message, Meter, Stack, WatchedMemory, memory_gas
from astralink_node.evm.opcodes import (
    JUMPI,
    ON_COMPUTATION,
    ON_STACK,
    DispatchTable,
    Operation,
    dispatch_table,
    traced_operations,
)
from astralink_node.evm.precompiles.registry import NATIVE, PrecompileCall, precompiles_for
from astralink_node.evm.tracing.hooks import ROOT_CREATION, CallSite, Tracer
from astralink_node.evm.tracing.run import run_traced
from astralink_node.state.overlay import Overlay
from astralink_node.types import Address

CALL_DEPTH_LIMIT: Final = 1024
PYTHON_FRAMES_PER_CALL: Final = 12
"""CREATE2 needs most: its three layers of opcode, two of child computation, three of message, and the loop."""
RECURSION_LIMIT: Final = CALL_DEPTH_LIMIT * PYTHON_FRAMES_PER_CALL + 4096
"""Python frames of a call as deep as the EVM allows, on top of whatever surrounds it. CPython 3.11 keeps frames
of Python functions on the heap, so depth costs no C stack as long as no C function sits between two of them."""
DEEP_CALL: Final = 48
"""At this depth the recursion limit is looked at. py-evm raises it when imported, but others may lower it."""

Precompiles = Mapping[Address, PrecompileCall]

OPCODES_PER_CHECK: Final = 1024
"""How many opcodes one call runs between two looks at the interrupt; one that works on much memory looks by itself."""

MAX_CODE_BYTES: Final = 24_576
"""EIP-170."""
RESERVED_FIRST_BYTE: Final = 0xEF
"""EIP-3541."""
CODE_DEPOSIT_GAS: Final = 200

_CHECK_PERIOD: Final = range(OPCODES_PER_CHECK)


class CodeDepositOutOfGas(OutOfGas):
    """Of a creation that cannot pay for the code that it returned."""


class CodeTooLarge(OutOfGas):
    """EIP-170."""


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

    def __init__(
        self,
        overlay: Overlay,
        block: BlockEnvironment,
        chain_id: int,
        fork: ForkRules,
        *,
        native_precompiles: bool = False,
        precompiles: Precompiles | None = None,
    ) -> None:
        """`precompiles` replaces the fork's own; those stay warm from the start all the same, as in geth."""
        self.overlay: Overlay = overlay
        self._account_db: Overlay = overlay
        self._block = block
        self.execution_context = ExecutionContext(block, chain_id)
        self.computation_class = computation_class(fork, native_precompiles=native_precompiles)
        self._always_warm: frozenset[bytes] = frozenset(self.computation_class.get_precompiles())
        if precompiles is not None:
            self.computation_class = with_precompiles(self.computation_class, precompiles)
        self.precompile_addresses: frozenset[bytes] = frozenset(self.computation_class.get_precompiles())
        self.logs: list[tuple[Address, tuple[int, ...], bytes]] = []
        """Of the running root call, in order; a reverted call's logs are cut off again."""
        self.root_refund = 0
        self.accounts_to_delete: list[Address] = []
        """Of the last root call, if it succeeded."""
        self.tracer: Tracer | None = None
        self.call_site: CallSite = ROOT_CREATION
        """The opcode that made the newest call; kept for a tracer only."""
        self.frames_entered = 0
        """How many calls a tracer was shown."""
        self.frame_watcher: Callable[[Computation], None] | None = None
        """Called with every finished call and creation, inner ones first; for who indexes addresses. No tracer."""
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
        return self._warm_in_overlay(address) or address in self._always_warm

    def get_ancestor_hash(self, block_number: int) -> bytes:
        number = self._block.number
        if not max(number - 256, 0) <= block_number < number:
            return b""
        return self._block.ancestor_hash(block_number)

    @property
    def blob_base_fee(self) -> int:
        wanted = self._block.blob_base_fee
        return blob_base_fee(self.execution_context.excess_blob_gas) if wanted is None else wanted


class Computation(PragueComputation):
    """One message call. Fork classes made by :func:`computation_class` give it opcodes and precompiles."""

    dispatch: ClassVar[DispatchTable]
    traced_operations: ClassVar[tuple[Operation, ...]]
    """By opcode, each to be called with the computation."""

    state: ExecutionState
    msg: Message
    code: Code
    stack_values: list[int]
    """The stack itself, its top last."""
    memory_content: bytearray
    _gas_meter: Meter
    _output: bytes
    _error: VMError | None

    def __init__(self, state: ExecutionState, message: Message, transaction_context: TransactionContext) -> None:
        self.state = state
        self.msg = message
        self.transaction_context = transaction_context
        self.code = Code(message.code)
        self.accounts_to_delete: list[Address] = []
        self.beneficiaries: list[Address] = []
        self._gas_meter = meter = Meter(message.gas)
        memory = Memory() if state.interrupt is None else WatchedMemory(state.interrupt)
        self._memory = memory
        self._stack = stack = Stack()
        self.stack_values = stack.values
        self.memory_content = memory.content
        # py-evm's opcodes call these on the computation: bound here, they cost no detour.
        self.consume_gas = meter.consume_gas
        self.return_gas = meter.return_gas
        self.refund_gas = meter.refund_gas
        self.memory_write = memory.write
        self.memory_read_bytes = memory.read_bytes
        self.memory_copy = memory.copy
        self.stack_pop_ints = stack.pop_ints
        self.stack_pop1_int = stack.pop1_int
        self.stack_pop1_bytes = stack.pop1_bytes
        self.stack_pop1_any = stack.pop1_any
        self.stack_push_int = stack.push_int
        self.stack_push_bytes = stack.push_bytes

    @property
    def is_origin_computation(self) -> bool:
        return bool(self.msg.depth == 0)

    @classmethod
    def apply_message(
        cls,
        state: ExecutionState,
        message: Message,
        transaction_context: TransactionContext,
        parent_computation: Computation | None = None,
    ) -> Computation:
        """Move the value, run the code, and undo both if it fails. Callers have checked depth and balance."""
        overlay = state.overlay
        checkpoint, log_count = overlay.record(), len(state.logs)
        value, target = message.value, message.storage_address
        if value and message.should_transfer_value:
            overlay.set_balance(message.sender, overlay.get_balance(message.sender) - value)
            overlay.set_balance(target, overlay.get_balance(target) + value)
        overlay.touch_account(target)
        computation = cls.apply_computation(state, message, transaction_context, parent_computation)
        if computation._error is not None:
            overlay.discard(checkpoint)
            del state.logs[log_count:]
        if not message.is_create:
            if state.tracer is not None:
                state.tracer.leave(computation)
            if state.frame_watcher is not None:
                state.frame_watcher(computation)
        return computation

    @classmethod
    def apply_create_message(
        cls,
        state: ExecutionState,
        message: Message,
        transaction_context: TransactionContext,
        parent_computation: Computation | None = None,
    ) -> Computation:
        """Run initcode and deploy what it returns, or undo it all. Callers have checked that nothing is there."""
        snapshot = state.snapshot()
        state.overlay.increment_nonce(message.storage_address)
        computation = cls.apply_message(state, message, transaction_context, parent_computation)
        if computation._error is None:
            try:
                computation.deploy()
            except VMError as error:
                computation.fail(error)
        if computation._error is not None:
            state.revert(snapshot)
        if state.tracer is not None:
            state.tracer.leave(computation)
        if state.frame_watcher is not None:
            state.frame_watcher(computation)
        return computation

    def deploy(self) -> None:
        """Pay for the code that this initcode returned, and set it."""
        code = self._output
        if not code:
            return
        if len(code) > MAX_CODE_BYTES:
            raise CodeTooLarge(f"{len(code)} bytes of code, at most {MAX_CODE_BYTES} (EIP-170)")
        if code[0] == RESERVED_FIRST_BYTE:
            raise ReservedBytesInCode("code begins with 0xef (EIP-3541)")
        cost = len(code) * CODE_DEPOSIT_GAS
        if cost > self._gas_meter.gas_remaining:
            raise CodeDepositOutOfGas(f"{cost} gas for {len(code)} bytes of code")
        self._gas_meter.gas_remaining -= cost
        self.state.overlay.set_code(self.storage_address, code)

    @classmethod
    def apply_computation(
        cls,
        state: ExecutionState,
        message: Message,
        transaction_context: TransactionContext,
        parent_computation: Computation | None = None,
    ) -> Computation:
        """Run a message's precompile or code; the caller reverts the state if the result is an error."""
        computation = cls(state, message, transaction_context)
        computation.contracts_created = set() if parent_computation is None else parent_computation.contracts_created
        if message.depth == DEEP_CALL:
            allow_deep_calls()
        if message.is_create:
            computation.contracts_created.add(message.storage_address)
        if state.tracer is not None:
            state.frames_entered += 1
            state.tracer.enter(computation)
        try:
            precompile = cls._precompiles.get(message.code_address)
            if precompile is None:
                if message.code:
                    computation.run_code()
            elif not message.is_delegation:
                precompile(computation)
        except VMError as error:
            computation.fail(error)
        return computation

    def run_code(self) -> None:
        """Run this call's code from its program counter to its end. Raises VMError where the call fails.

        The one place where code is run: a translator overrides it, a tracer takes the slower loop of tracing.run.
        """
        state = self.state
        if state.tracer is not None:
            run_traced(self, state.tracer)
            return
        code, meter, dispatch, values = self.code, self._gas_meter, self.dispatch, self.stack_values
        padded, interrupt, destinations = code.padded, state.interrupt, None
        # Program counter and gas live here; the computation has them while an operation that may look runs.
        position, gas_left, way = code.program_counter, meter.gas_remaining, ON_COMPUTATION
        mnemonic = ""
        try:
            while True:
                if interrupt is not None:
                    interrupt()
                for _ in _CHECK_PERIOD:
                    gas, mnemonic, way, run = dispatch[padded[position]]
                    position += 1
                    gas_left -= gas
                    if gas_left < 0:
                        raise OutOfGas(mnemonic)
                    if way == ON_STACK:
                        run(values)
                    elif way > 0:
                        if len(values) >= STACK_LIMIT:
                            raise FullStack("stack limit reached")
                        end = position + way
                        values.append(int.from_bytes(padded[position:end], "big"))
                        position = end
                    elif way == ON_COMPUTATION:
                        code.program_counter, meter.gas_remaining = position, gas_left
                        run(self)
                        position, gas_left = code.program_counter, meter.gas_remaining
                    else:
                        destination = values.pop()
                        if way == JUMPI and not values.pop():
                            continue
                        if destinations is None:
                            destinations = code.destinations
                        if destination not in destinations:
                            raise InvalidJumpDestination(f"{destination} is no JUMPDEST")
                        position = destination
        except Halt:
            pass
        except IndexError:
            if way == ON_COMPUTATION:
                raise
            raise InsufficientStack(mnemonic) from None

    @property
    def failure(self) -> VMError | None:
        return self._error

    def extend_memory(self, start_position: int, size: int) -> None:
        """Grow the memory to hold the range, in whole words, and charge for it; an empty range needs nothing."""
        if not size:
            return
        content = self.memory_content
        words, words_before = (start_position + size + 31) >> 5, len(content) >> 5
        if words <= words_before:
            return
        self._gas_meter.consume_gas(memory_gas(words) - memory_gas(words_before), "memory expansion")
        content.extend(bytes((words - words_before) << 5))

    def prepare_child_message(
        self,
        gas: int,
        to: bytes,
        value: int,
        data: bytes,
        code: bytes,
        **more: Any,
    ) -> Message:
        more.setdefault("sender", self.msg.storage_address)
        return Message(gas, to, value=value, data=data, code=code, depth=self.msg.depth + 1, **more)

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

    def register_account_for_deletion(self, beneficiary: Address) -> None:
        self.accounts_to_delete.append(self.msg.storage_address)
        self.beneficiaries.append(beneficiary)

    def get_gas_refund(self) -> int:
        return 0 if self._error is not None else self._gas_meter.gas_refunded

    @property
    def storage_address(self) -> Address:
        """Whose storage this call reads and writes."""
        return Address(self.msg.storage_address)

    @property
    def gas_left(self) -> int:
        return self._gas_meter.gas_remaining

    @property
    def refunded(self) -> int:
        """Of this call and those that it has made; may be negative until the root call ends."""
        return self._gas_meter.gas_refunded

    # What calling opcodes ask of the call that they made; py-evm's own versions go through several properties.

    @property
    def is_error(self) -> bool:
        return self._error is not None

    @property
    def should_burn_gas(self) -> bool:
        return self._error is not None and bool(self._error.burns_gas)

    @property
    def should_erase_return_data(self) -> bool:
        return self._error is not None and bool(self._error.erases_return_data)

    @property
    def output(self) -> bytes:
        return b"" if self._error is not None and self._error.erases_return_data else self._output

    @output.setter
    def output(self, value: bytes) -> None:
        self._output = value

    def get_gas_remaining(self) -> int:
        return 0 if self._error is not None and self._error.burns_gas else self._gas_meter.gas_remaining

    def add_log_entry(self, account: Address, topics: tuple[int, ...], data: bytes) -> None:
        self.state.logs.append((account, topics, data))

    @classmethod
    def consume_initcode_gas_cost(cls, computation: Computation) -> None:
        """Nothing: a creating transaction has paid it as intrinsic gas, and CREATE charges it itself."""


@lru_cache(maxsize=8)
def computation_class(fork: ForkRules, *, native_precompiles: bool = False) -> type[Computation]:
    """py-evm's Prague computation with this fork's opcodes and precompiles, and the chain's own if it has any."""
    members: dict[str, object] = {
        "dispatch": (dispatch := dispatch_table(fork)),
        "traced_operations": traced_operations(dispatch),
        "_precompiles": precompiles_for(fork.p256verify, native=NATIVE if native_precompiles else ()),
    }
    return type(f"{fork.name}Computation", (Computation,), members)


def with_precompiles(base: type[Computation], precompiles: Precompiles) -> type[Computation]:
    """The same computation with other precompiles: for a simulation that moves or replaces some."""
    return type(base.__name__, (base,), {"_precompiles": precompiles})


def precompiles_of(fork: ForkRules, *, native_precompiles: bool = False) -> Precompiles:
    """What answers at which address before any override."""
    precompiles: Precompiles = computation_class(fork, native_precompiles=native_precompiles).get_precompiles()
    return precompiles


def allow_deep_calls() -> None:
    """Raise Python's recursion limit to what a call of depth 1024 needs. It is never lowered."""
    if sys.getrecursionlimit() < RECURSION_LIMIT:
        sys.setrecursionlimit(RECURSION_LIMIT)
