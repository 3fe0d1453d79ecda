"""Requests of simulated calls: what no transaction could say and how much may be overridden, their way to the EVM and
what is answered where the EVM refuses them.

Messages come from gateways, which other programs may stand in for, so every field's range is looked at before the EVM
sees it. Calls, estimates, access lists, simulated blocks and traced calls all come through here.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from astralink_node.chain.call_messages import NO_BLOCK_OVERRIDE, BlockOverride, CallFailed, CallRequest, StateOverride
from astralink_node.chain.query_limits import DeadlinePassed, QueryLimits
from astralink_node.evm.overrides import AccountOverride, BlockOverrides
from astralink_node.evm.simulate import CallParameters, CallRefused
from astralink_node.evm.transactions import U64_MAX, U256_MAX, Authorization
from astralink_node.types import ADDRESS_BYTES, Address, Hash32

WORD_BYTES = 32
MAX_OVERRIDES = 1_000
MAX_OVERRIDE_SLOTS = 10_000
MAX_ACCESS_LIST_SLOTS = 10_000
TRACE_TIMEOUT: Final = "execution timeout"
"""geth's words for a trace; a call's are :func:`call_timeout`."""

Answered = TypeVar("Answered")


def answered(work: Callable[[], Answered], timeout: str) -> Answered | CallFailed:
    """What `work` gives, or why the EVM did not take it on or did not come to an end; `timeout` words the latter."""
    try:
        return work()
    except CallRefused as refusal:
        return CallFailed(refusal.kind, refusal.message, refusal.output)
    except DeadlinePassed:
        return CallFailed("timeout", timeout)


def call_timeout(limits: QueryLimits) -> str:
    return f"execution aborted (timeout = {limits.time_ms / 1000:g}s)"


def parameters_of(request: CallRequest) -> CallParameters:
    return CallParameters(
        sender=Address(request.sender),
        to=request.to,
        data=request.data,
        value=request.value_wei,
        gas=request.gas,
        gas_price=request.gas_price_wei,
        max_fee_per_gas=request.max_fee_wei,
        max_priority_fee_per_gas=request.max_priority_fee_wei,
        access_list=tuple((Address(entry.address), entry.slots) for entry in request.access_list),
        authorizations=None
        if request.authorizations is None
        else tuple(
            Authorization(entry.chain_id, Address(entry.address), entry.nonce, entry.y_parity, entry.r, entry.s)
            for entry in request.authorizations
        ),
        nonce=request.nonce,
    )


def account_override_of(override: StateOverride) -> AccountOverride:
    return AccountOverride(
        address=Address(override.address),
        nonce=override.nonce,
        balance=override.balance_wei,
        code=override.code,
        state=override.state,
        state_diff=override.state_diff,
        move_precompile_to=Address(override.move_precompile_to) if override.move_precompile_to else None,
    )


def block_overrides_of(block: BlockOverride) -> BlockOverrides:
    return BlockOverrides(
        number=block.number,
        timestamp=block.time_s,
        gas_limit=block.gas_limit,
        coinbase=None if block.fee_recipient is None else Address(block.fee_recipient),
        prev_randao=None if block.prev_randao is None else Hash32(block.prev_randao),
        base_fee_per_gas=block.base_fee_wei,
        blob_base_fee=block.blob_base_fee_wei,
        beacon_root=None if block.beacon_root is None else Hash32(block.beacon_root),
    )


def problem_of_request(request: CallRequest) -> str:
    """What no transaction could say; empty if there is nothing of the kind."""
    if len(request.sender) != ADDRESS_BYTES or len(request.to) not in (0, ADDRESS_BYTES):
        return "sender and recipient: expected addresses of 20 bytes"
    amounts = (request.gas_price_wei, request.max_fee_wei, request.max_priority_fee_wei, request.value_wei)
    if not all(amount is None or 0 <= amount <= U256_MAX for amount in amounts):
        return "fees and value: expected 256-bit numbers"
    if request.gas is not None and not 0 <= request.gas <= U64_MAX:
        return "gas: expected a 64-bit number"
    if request.nonce is not None and not 0 <= request.nonce <= U64_MAX:
        return "nonce: expected a 64-bit number"
    if sum(len(entry.slots) + 1 for entry in request.access_list) > MAX_ACCESS_LIST_SLOTS:
        return f"access list: expected at most {MAX_ACCESS_LIST_SLOTS} addresses and slots"
    for entry in request.access_list:
        if len(entry.address) != ADDRESS_BYTES or not all(0 <= slot <= U256_MAX for slot in entry.slots):
            return "access list: expected addresses of 20 bytes and 256-bit slots"
    for authorization in request.authorizations or ():
        if len(authorization.address) != ADDRESS_BYTES:
            return "authorizations: expected addresses of 20 bytes"
    return ""


def problem_of_overrides(overrides: Sequence[StateOverride], block: BlockOverride = NO_BLOCK_OVERRIDE) -> str:
    if len(overrides) > MAX_OVERRIDES:
        return f"state overrides: expected at most {MAX_OVERRIDES} accounts"
    slot_count = 0
    for override in overrides:
        slots = (*(override.state or ()), *override.state_diff)
        slot_count += len(slots)
        if len(override.address) != ADDRESS_BYTES or len(override.move_precompile_to) not in (0, ADDRESS_BYTES):
            return "state overrides: expected addresses of 20 bytes"
        if not all(0 <= slot <= U256_MAX and 0 <= value <= U256_MAX for slot, value in slots):
            return "state overrides: expected 256-bit slots and values"
        if not 0 <= (override.nonce or 0) <= U64_MAX or not 0 <= (override.balance_wei or 0) <= U256_MAX:
            return "state overrides: expected a 64-bit nonce and a 256-bit balance"
    if slot_count > MAX_OVERRIDE_SLOTS:
        return f"state overrides: expected at most {MAX_OVERRIDE_SLOTS} slots"
    return problem_of_block(block)


def problem_of_block(block: BlockOverride) -> str:
    if any(number is not None and not 0 <= number <= U64_MAX for number in (block.number, block.time_s)):
        return "block overrides: expected a 64-bit number and time"
    if block.gas_limit is not None and not 0 <= block.gas_limit <= U64_MAX:
        return "block overrides: expected a 64-bit gas limit"
    if any(fee is not None and not 0 <= fee <= U256_MAX for fee in (block.base_fee_wei, block.blob_base_fee_wei)):
        return "block overrides: expected 256-bit base fees"
    if block.fee_recipient is not None and len(block.fee_recipient) != ADDRESS_BYTES:
        return "block overrides: expected a fee recipient of 20 bytes"
    if any(word is not None and len(word) != WORD_BYTES for word in (block.prev_randao, block.beacon_root)):
        return "block overrides: expected a prevRandao and a beacon root of 32 bytes"
    return ""
