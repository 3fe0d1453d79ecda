"""The transaction object, the state overrides and the block overrides of everything that simulates.

Pure parsing, as geth's TransactionArgs, StateOverride and BlockOverrides: unknown fields are ignored, and ``nonce`` has
an effect on simulated blocks only.
"""

from __future__ import annotations

from dataclasses import dataclass

from astralink_node.chain.call_messages import (
    AccessListEntry,
    AuthorizationEntry,
    BlockOverride,
    CallRequest,
    StateOverride,
)
from astralink_node.crypto.addresses import checksum_address
from astralink_node.gateway.parameters import (
    BadValue,
    address,
    byte_string,
    hash32,
    json_object,
    optional_array,
    quantity,
    quantity64,
)
from astralink_node.gateway.rpc_errors import server_error
from astralink_node.types import ZERO_ADDRESS

_BLOB_FIELDS = ("maxFeePerBlobGas", "blobVersionedHashes", "blobs", "commitments", "proofs")


@dataclass(frozen=True, slots=True)
class CallArguments:
    request: CallRequest
    chain_id: int | None
    """Given by the caller; the method compares it with the chain's."""


def call_arguments(path: str, value: object) -> CallArguments:
    fields = json_object(path, value)
    for name in _BLOB_FIELDS:
        if fields.get(name) is not None:
            raise BadValue(f"{path}.{name}", "blob transactions are not supported by this chain")
    gas_price = _optional_quantity(path, fields, "gasPrice")
    max_fee = _optional_quantity(path, fields, "maxFeePerGas")
    max_priority_fee = _optional_quantity(path, fields, "maxPriorityFeePerGas")
    if gas_price is not None and (max_fee is not None or max_priority_fee is not None):
        raise BadValue(path, "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
    if max_fee is not None and max_priority_fee is not None and max_fee < max_priority_fee:
        raise BadValue(path, f"maxFeePerGas ({max_fee}) < maxPriorityFeePerGas ({max_priority_fee})")
    sender, recipient = fields.get("from"), fields.get("to")
    value_wei = _optional_quantity(path, fields, "value")
    return CallArguments(
        request=CallRequest(
            sender=ZERO_ADDRESS if sender is None else address(f"{path}.from", sender),
            to=b"" if recipient is None else address(f"{path}.to", recipient),
            gas=None if fields.get("gas") is None else quantity64(f"{path}.gas", fields["gas"]),
            gas_price_wei=gas_price,
            max_fee_wei=max_fee,
            max_priority_fee_wei=max_priority_fee,
            value_wei=0 if value_wei is None else value_wei,
            data=_call_data(path, fields),
            access_list=_access_list(f"{path}.accessList", fields.get("accessList")),
            authorizations=_authorizations(f"{path}.authorizationList", fields.get("authorizationList")),
            nonce=None if fields.get("nonce") is None else quantity64(f"{path}.nonce", fields["nonce"]),
        ),
        chain_id=_optional_quantity(path, fields, "chainId"),
    )


def state_overrides(path: str, value: object) -> tuple[StateOverride, ...]:
    return tuple(
        _state_override(f"{path}.{account}", address(f"{path}.{account}", account), override)
        for account, override in json_object(path, value).items()
    )


def _state_override(path: str, account: bytes, value: object) -> StateOverride:
    fields = json_object(path, value)
    if fields.get("state") is not None and fields.get("stateDiff") is not None:
        raise server_error(f"account {checksum_address(account)} has both 'state' and 'stateDiff'")
    state, target = fields.get("state"), fields.get("movePrecompileToAddress")
    return StateOverride(
        address=account,
        nonce=None if fields.get("nonce") is None else quantity64(f"{path}.nonce", fields["nonce"]),
        balance_wei=_optional_quantity(path, fields, "balance"),
        code=None if fields.get("code") is None else byte_string(f"{path}.code", fields["code"]),
        state=None if state is None else _slots(f"{path}.state", state),
        state_diff=_slots(f"{path}.stateDiff", fields.get("stateDiff") or {}),
        move_precompile_to=b"" if target is None else address(f"{path}.movePrecompileToAddress", target),
    )


def block_overrides(path: str, value: object) -> BlockOverride:
    """For one call. What only whole blocks have is refused, in geth's words."""
    fields = json_object(path, value)
    for name in ("beaconRoot", "withdrawals"):
        if fields.get(name) is not None:
            raise server_error(f'block override "{name}" is not supported for this RPC method')
    return simulated_block_overrides(path, value)


def simulated_block_overrides(path: str, value: object) -> BlockOverride:
    """For a simulated block. Blocks of this chain have no withdrawals; a difficulty means nothing here, as in geth."""
    fields = json_object(path, value)
    if fields.get("withdrawals"):
        raise BadValue(f"{path}.withdrawals", "this chain has no withdrawals")
    _optional_quantity(path, fields, "difficulty")
    recipient = fields.get("feeRecipient")
    return BlockOverride(
        number=_optional_quantity64(path, fields, "number"),
        time_s=_optional_quantity64(path, fields, "time"),
        gas_limit=_optional_quantity64(path, fields, "gasLimit"),
        fee_recipient=None if recipient is None else address(f"{path}.feeRecipient", recipient),
        prev_randao=_optional_hash(path, fields, "prevRandao"),
        base_fee_wei=_optional_quantity(path, fields, "baseFeePerGas"),
        blob_base_fee_wei=_optional_quantity(path, fields, "blobBaseFee"),
        beacon_root=_optional_hash(path, fields, "beaconRoot"),
    )


def _slots(path: str, value: object) -> tuple[tuple[int, int], ...]:
    return tuple(
        (
            int.from_bytes(hash32(f"{path}.{slot}", slot), "big"),
            int.from_bytes(hash32(f"{path}.{slot}", word), "big"),
        )
        for slot, word in json_object(path, value).items()
    )


def _optional_quantity(path: str, fields: dict[str, object], name: str) -> int | None:
    value = fields.get(name)
    return None if value is None else quantity(f"{path}.{name}", value)


def _optional_quantity64(path: str, fields: dict[str, object], name: str) -> int | None:
    value = fields.get(name)
    return None if value is None else quantity64(f"{path}.{name}", value)


def _optional_hash(path: str, fields: dict[str, object], name: str) -> bytes | None:
    value = fields.get(name)
    return None if value is None else hash32(f"{path}.{name}", value)


def _call_data(path: str, fields: dict[str, object]) -> bytes:
    """``input`` is the newer name of ``data``; clients may send both if they agree."""
    given = {
        name: byte_string(f"{path}.{name}", fields[name]) for name in ("input", "data") if fields.get(name) is not None
    }
    if len(given) == 2 and given["input"] != given["data"]:
        raise BadValue(
            path, 'both "data" and "input" are set and not equal. Please use "input" to pass transaction call data'
        )
    return given.get("input", given.get("data", b""))


def _access_list(path: str, value: object) -> tuple[AccessListEntry, ...]:
    entries = []
    for index, item in enumerate(optional_array(path, value)):
        fields = json_object(f"{path}[{index}]", item)
        keys_path = f"{path}[{index}].storageKeys"
        keys = [
            hash32(f"{keys_path}[{n}]", key)
            for n, key in enumerate(optional_array(keys_path, fields.get("storageKeys")))
        ]
        entries.append(
            AccessListEntry(
                address=address(f"{path}[{index}].address", fields.get("address")),
                slots=tuple(int.from_bytes(key, "big") for key in keys),
            )
        )
    return tuple(entries)


def _authorizations(path: str, value: object) -> tuple[AuthorizationEntry, ...] | None:
    """EIP-7702 tuples, None if there is no list. Some clients say ``v`` for ``yParity``."""
    if value is None:
        return None
    entries = []
    for index, item in enumerate(optional_array(path, value)):
        place = f"{path}[{index}]"
        fields = json_object(place, item)
        parity = fields.get("yParity", fields.get("v"))
        entries.append(
            AuthorizationEntry(
                chain_id=quantity(f"{place}.chainId", fields.get("chainId")),
                address=address(f"{place}.address", fields.get("address")),
                nonce=quantity64(f"{place}.nonce", fields.get("nonce")),
                y_parity=quantity(f"{place}.yParity", parity, maximum=255),
                r=quantity(f"{place}.r", fields.get("r")),
                s=quantity(f"{place}.s", fields.get("s")),
            )
        )
    return tuple(entries)
