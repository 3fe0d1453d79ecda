"""geth's JSON of what the ``prestateTracer`` and the ``4byteTracer`` find."""

from __future__ import annotations

from astralink_node.evm.tracing.records import Prestate, SelectorCounts, TouchedAccount


def prestate_fields(prestate: Prestate) -> dict[str, object]:
    """geth's JSON."""
    pre = {_hex(account.address): _fields(account) for account in prestate.pre}
    if not prestate.is_diff:
        return dict(pre)
    return {"post": {_hex(account.address): _fields(account) for account in prestate.post}, "pre": pre}


def _fields(account: TouchedAccount) -> dict[str, object]:
    fields: dict[str, object] = {}
    if account.balance is not None:
        fields["balance"] = hex(account.balance)
    if account.code:
        fields["code"] = _hex(account.code)
    if account.nonce:
        fields["nonce"] = account.nonce
    if account.storage:
        fields["storage"] = {f"0x{slot:064x}": f"0x{value:064x}" for slot, value in account.storage}
    return fields


def selector_fields(counts: SelectorCounts) -> dict[str, object]:
    """geth's JSON: ``{"0x27dc297e-128": 1}``."""
    return {f"0x{entry.selector.hex()}-{entry.data_bytes}": entry.count for entry in counts.counts}


def _hex(data: bytes) -> str:
    return "0x" + data.hex()
