"""Every JSON-RPC error that the gateway answers with: codes as JSON-RPC 2.0 and geth use them, words as geth's.

Wallets and libraries match these codes and messages (ethers looks for "insufficient funds", "nonce too low"
and code 3), so they change only with a reason.
"""

from __future__ import annotations

from astralink_node.errors import AstraLinkError
from astralink_node.gateway.reading.errors import CallHalted, CallReverted, ReadError, TooMuch

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
TIMEOUT = -32002
RESPONSE_TOO_LARGE = -32003
LIMIT_EXCEEDED = -32005
EXECUTION_REVERTED = 3

ERROR_SELECTOR = bytes.fromhex("08c379a0")
"""Error(string)."""
PANIC_SELECTOR = bytes.fromhex("4e487b71")
"""Panic(uint256)."""

_PANIC_REASONS = {
    0x00: "generic panic",
    0x01: "assert(false)",
    0x11: "arithmetic underflow or overflow",
    0x12: "division or modulo by zero",
    0x21: "enum overflow",
    0x22: "invalid encoded storage byte array accessed",
    0x31: "out-of-bounds array access; popping on an empty array",
    0x32: "out-of-bounds access of an array or bytesN",
    0x41: "out of memory",
    0x51: "uninitialized function",
}
"""The Solidity documentation's panic codes, in geth's words."""


class RpcError(AstraLinkError):
    """What a client is told instead of a result."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def to_json(self) -> dict[str, object]:
        error: dict[str, object] = {"code": self.code, "message": self.message}
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
        case TooMuch():
            return RpcError(LIMIT_EXCEEDED, str(error))
        case _:
            return server_error(str(error))


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


def revert_reason(output: bytes) -> str | None:
    """The text of an ABI-encoded ``Error(string)`` or ``Panic(uint256)``; None for custom errors and rubbish."""
    selector, arguments = output[:4], output[4:]
    if selector == PANIC_SELECTOR and len(arguments) >= 32:
        code = int.from_bytes(arguments[:32], "big")
        return _PANIC_REASONS.get(code, f"unknown panic code: {code:#x}")
    if selector != ERROR_SELECTOR or len(arguments) < 64:
        return None
    offset = int.from_bytes(arguments[:32], "big")
    if offset + 32 > len(arguments):
        return None
    length = int.from_bytes(arguments[offset : offset + 32], "big")
    text = arguments[offset + 32 : offset + 32 + length]
    if len(text) != length:
        return None
    return text.decode("utf-8", errors="replace")
