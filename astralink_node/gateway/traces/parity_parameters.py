"""Parameters of the trace namespace: kinds of traces, filters, lists of calls, paths to a trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from astralink_node.chain.call_messages import AccessListEntry, AuthorizationEntry, CallRequest
from astralink_node.chain.messages import AtHeight
from astralink_node.chain.trace_messages import MAX_TRACED_CALLS, TypedTracers
from astralink_node.evm.tracing.options import CallFrames, TouchedAccounts, TypedTracer, VmSteps
from astralink_node.evm.transactions import DYNAMIC_FEE_TYPE, SET_CODE_TYPE, Transaction
from astralink_node.gateway.call_parameters import CallArguments, call_arguments
from astralink_node.gateway.parameters import (
    BadValue,
    addresses,
    array,
    block_number,
    json_object,
    picture,
    whole_number,
)
from astralink_node.gateway.traces.parity_json import FlatTrace
from astralink_node.types import Address

TRACE: Final = "trace"
STATE_DIFF: Final = "stateDiff"
VM_TRACE: Final = "vmTrace"
MAX_PATH: Final = 1024
MAX_FILTER_ADDRESSES: Final = 1000

_TRACER_OF: Final[Mapping[str, TypedTracer]] = {
    TRACE: CallFrames(),
    STATE_DIFF: TouchedAccounts(diff_mode=True),
    VM_TRACE: VmSteps(),
}


@dataclass(frozen=True, slots=True)
class ParityKinds:
    """What is asked for of each run; the tracers are in this order."""

    names: tuple[str, ...]

    @property
    def how(self) -> TypedTracers:
        return TypedTracers(tuple(_TRACER_OF[name] for name in self.names))


def kinds(path: str, value: object) -> ParityKinds:
    given = array(path, [value] if isinstance(value, str) else value, "trace types")
    names: dict[str, None] = {}
    for name in given:
        if not isinstance(name, str) or name not in _TRACER_OF:
            raise BadValue(path, f"expected {', '.join(_TRACER_OF)}, found {picture(name)}")
        names[name] = None
    return ParityKinds(tuple(names))


@dataclass(frozen=True, slots=True)
class TracedCall:
    arguments: CallArguments
    kinds: ParityKinds


def traced_calls(path: str, value: object) -> tuple[TracedCall, ...]:
    """trace_callMany's ``[[transaction, kinds], ...]``."""
    calls = []
    for index, pair in enumerate(array(path, value, "calls", maximum=MAX_TRACED_CALLS)):
        place = f"{path}[{index}]"
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadValue(place, f"expected a transaction and its trace types, found {picture(pair)}")
        calls.append(TracedCall(call_arguments(f"{place}[0]", pair[0]), kinds(f"{place}[1]", pair[1])))
    return tuple(calls)


def trace_path(path: str, value: object) -> tuple[int, ...]:
    """Positions of a trace among its callers' calls, the outermost first."""
    given = array(path, value, "positions", maximum=MAX_PATH)
    return tuple(whole_number(f"{path}[{index}]", each) for index, each in enumerate(given))


@dataclass(frozen=True, slots=True)
class TraceFilter:
    first: int | None
    """A height; None: the head's."""
    last: int | None
    senders: frozenset[bytes]
    """Empty: anybody."""
    recipients: frozenset[bytes]
    """Callees, created contracts and beneficiaries; empty: anybody."""
    is_union: bool
    """One of the two suffices. Erigon's ``mode``; OpenEthereum asks for both."""
    after: int
    """So many matches are passed over."""
    count: int | None

    def first_height(self, head: int) -> int:
        return head if self.first is None else self.first

    def last_height(self, head: int) -> int:
        return head if self.last is None else self.last

    @property
    def needed_addresses(self) -> frozenset[bytes]:
        """One of these takes part in every match; empty if nobody in particular need."""
        if not self.senders or not self.recipients:
            return self.senders or self.recipients
        return self.senders | self.recipients if self.is_union else min(self.senders, self.recipients, key=len)

    def matches(self, flat: FlatTrace) -> bool:
        is_sent, is_received = flat.sender in self.senders, flat.to in self.recipients
        if self.is_union and self.senders and self.recipients:
            return is_sent or is_received
        return (is_sent or not self.senders) and (is_received or not self.recipients)


def trace_filter_argument(path: str, value: object) -> TraceFilter:
    fields = json_object(path, value)
    mode, after, count = fields.get("mode"), fields.get("after"), fields.get("count")
    if mode not in (None, "union", "intersection"):
        raise BadValue(f"{path}.mode", f"expected union or intersection, found {picture(mode)}")
    first, last = fields.get("fromBlock"), fields.get("toBlock")
    return TraceFilter(
        first=0 if first is None else _height(f"{path}.fromBlock", first),
        last=None if last is None else _height(f"{path}.toBlock", last),
        senders=_addresses(f"{path}.fromAddress", fields.get("fromAddress")),
        recipients=_addresses(f"{path}.toAddress", fields.get("toAddress")),
        is_union=mode == "union",
        after=0 if after is None else whole_number(f"{path}.after", after),
        count=None if count is None else whole_number(f"{path}.count", count),
    )


def _height(path: str, value: object) -> int | None:
    at = block_number(path, value)
    return at.height if isinstance(at, AtHeight) else None


def _addresses(path: str, value: object) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    given = [value] if isinstance(value, str) else value
    return frozenset(addresses(path, given, maximum=MAX_FILTER_ADDRESSES))


def request_of_transaction(transaction: Transaction, sender: Address) -> CallRequest:
    """A signed transaction as a call that never happens."""
    has_price = transaction.tx_type < DYNAMIC_FEE_TYPE
    return CallRequest(
        sender=sender,
        to=transaction.to,
        gas=transaction.gas_limit,
        gas_price_wei=transaction.gas_price if has_price else None,
        max_fee_wei=None if has_price else transaction.max_fee_per_gas,
        max_priority_fee_wei=None if has_price else transaction.max_priority_fee_per_gas,
        value_wei=transaction.value,
        data=transaction.data,
        access_list=tuple(AccessListEntry(account, slots) for account, slots in transaction.access_list),
        authorizations=None
        if transaction.tx_type != SET_CODE_TYPE
        else tuple(
            AuthorizationEntry(each.chain_id, each.address, each.nonce, each.y_parity, each.r, each.s)
            for each in transaction.authorizations
        ),
    )
