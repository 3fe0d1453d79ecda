"""Every JSON-RPC error that the gateway answers with: codes as JSON-RPC 2.0 and geth use them, words as geth's.

Wallets and libraries match these codes and messages (ethers looks for "insufficient funds", "nonce too low"
and code 3), so they change only with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from astralink_node.errors import AstraLinkError
from astralink_node.evm.revert_reason import revert_reason
from astralink_node.gateway.reading.errors import (
    CallHalted,
    CallRefused,
    CallReverted,
    ReadError,
    SimulationRefused,
    TooMuch,
)

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
RESOURCE_NOT_FOUND = -32001
TIMEOUT = -32002
RESPONSE_TOO_LARGE = -32003
LIMIT_EXCEEDED = -32005
EXECUTION_REVERTED = 3
VM_ERROR = -32015
"""A simulated block's call that ended in an exceptional halt."""
CLIENT_LIMIT_EXCEEDED = -38026
STILL_PENDING = 4
"""EIP-7966: accepted, and in no block yet when the wait was over."""

SIMULATION_CODES = {
    "nonce_too_low": -38010,
    "nonce_too_high": -38011,
    "nonce_max": INTERNAL_ERROR,
    "fee_cap": -38012,
    "intrinsic_gas": -38013,
    "insufficient_funds": -38014,
    "block_gas": -38015,
    "block_number": -38020,
    "block_time": -38021,
    "initcode": -38025,
    "too_many_blocks": CLIENT_LIMIT_EXCEEDED,
    "timeout": -32016,
    "invalid": INVALID_PARAMS,
    "override": SERVER_ERROR,
}
"""eth_simulateV1's, by the kind of refusal. -38022, -38023 (here as in geth an ``override``) and -38024 have no use."""


class RpcError(AstraLinkError):
    """What a client is told instead of a result."""

    def __init__(self, code: int, message: str, data: str | Mapping[str, int | str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, int | str | Mapping[str, int | str]]:
        error: dict[str, int | str | Mapping[str, int | str]] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


def of_read_error(error: ReadError) -> RpcError:
    """What a client is told where the query layer has no answer."""
    match error:
        case CallReverted():
            return execution_reverted(error.output)
        case CallHalted():
            return halted(str(error))
        case CallRefused(kind="internal") | SimulationRefused(kind="internal"):
            return RpcError(INTERNAL_ERROR, str(error))
        case SimulationRefused():
            return RpcError(SIMULATION_CODES.get(error.kind, SERVER_ERROR), str(error))
        case TooMuch():
            return RpcError(LIMIT_EXCEEDED, str(error))
        case _:
            return server_error(str(error))


def response_too_large(limit: int) -> RpcError:
    return RpcError(RESPONSE_TOO_LARGE, f"response too large: more than {limit} bytes")


def too_many_requests(per_second: int, whose: str, retry_after_ms: int) -> RpcError:
    """`whose` rate: of one ``connection`` or one ``address``."""
    return RpcError(
        LIMIT_EXCEEDED,
        f"too many requests: at most {per_second} a second of one {whose}; try again in {retry_after_ms} ms",
        {"requestsPerSecond": per_second, "retryAfterMs": retry_after_ms},
    )


def invalid_params(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


def invalid_argument(index: int, reason: str) -> RpcError:
    """``reason`` opens with the path of what is wrong: ``transaction.to: hex string without 0x prefix``."""
    return RpcError(INVALID_PARAMS, f"invalid argument {index}: {reason}")


def server_error(message: str) -> RpcError:
    return RpcError(SERVER_ERROR, message)


def method_not_found(method: str) -> RpcError:
    return RpcError(METHOD_NOT_FOUND, f"the method {method[:100]} does not exist/is not available")


def subscriptions_need_websocket() -> RpcError:
    return RpcError(METHOD_NOT_FOUND, "notifications not supported")


def accounts_not_managed(method: str) -> RpcError:
    return RpcError(
        METHOD_NOT_FOUND,
        f"{method}: accounts are not managed by this node; sign in a wallet and use eth_sendRawTransaction",
    )


def execution_reverted(output: bytes) -> RpcError:
    """Code 3 with the revert bytes, which wallets decode with the contract's ABI."""
    reason = revert_reason(output)
    message = f"execution reverted: {reason}" if reason is not None else "execution reverted"
    return RpcError(EXECUTION_REVERTED, message, "0x" + output.hex())


def halted(reason: str) -> RpcError:
    """A call that ended in an exceptional halt, worded as geth does: in lower case."""
    return RpcError(SERVER_ERROR, reason[:1].lower() + reason[1:] if reason else "execution halted")


def still_pending(transaction_hash: bytes, waited_ms: int) -> RpcError:
    waited = f"{waited_ms / 1000:g}s"
    return RpcError(
        STILL_PENDING,
        f"The transaction was added to the transaction pool but wasn't processed in {waited}",
        "0x" + transaction_hash.hex(),
    )


def failed_call(status: str, output: bytes, halt_reason: str) -> RpcError | None:
    """What stands beside a call of a simulated block that failed; None for one that did not."""
    match status:
        case "reverted":
            return execution_reverted(output)
        case "halted":
            return RpcError(VM_ERROR, halted(halt_reason).message)
        case _:
            return None
