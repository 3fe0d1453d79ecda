"""Reverts carry their bytes and, where the ABI says so, a reason that people can read."""

import pytest
from eth_abi.abi import encode

from astralink_node.evm.revert_reason import ERROR_SELECTOR, PANIC_SELECTOR, revert_reason
from astralink_node.gateway.reading.errors import CallRefused, SimulationRefused
from astralink_node.gateway.rpc_errors import (
    EXECUTION_REVERTED,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    SERVER_ERROR,
    execution_reverted,
    of_read_error,
)


@pytest.mark.parametrize("reason", ["", "module: reason", "ünïcode", "x" * 100])
def test_an_error_string_is_read(reason: str) -> None:
    assert revert_reason(ERROR_SELECTOR + encode(["string"], [reason])) == reason


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x01, "assert(false)"),
        (0x11, "arithmetic underflow or overflow"),
        (0x12, "division or modulo by zero"),
        (0x99, "unknown panic code: 0x99"),
    ],
)
def test_a_panic_code_is_read(code: int, words: str) -> None:
    assert revert_reason(PANIC_SELECTOR + encode(["uint256"], [code])) == words


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\x08",
        ERROR_SELECTOR,
        ERROR_SELECTOR + b"\xff" * 64,
        ERROR_SELECTOR + encode(["uint256", "uint256"], [32, 2**255]),
        ERROR_SELECTOR + encode(["string"], ["cut short"])[:-32],
        PANIC_SELECTOR + b"\x01",
        bytes.fromhex("e450d38c") + encode(["address", "uint256", "uint256"], ["0x" + "11" * 20, 1, 2]),
    ],
)
def test_custom_errors_and_rubbish_have_no_reason_and_keep_their_bytes(output: bytes) -> None:
    assert revert_reason(output) is None
    error = execution_reverted(output)
    assert (error.code, error.message, error.data) == (EXECUTION_REVERTED, "execution reverted", "0x" + output.hex())


def test_text_that_is_not_utf8_is_shown_as_far_as_it_goes() -> None:
    assert revert_reason(ERROR_SELECTOR + encode(["bytes"], [b"ok\xff"])) == "ok\ufffd"


@pytest.mark.parametrize("refused", [CallRefused, SimulationRefused])
def test_what_is_no_fault_of_the_caller_is_an_internal_error(refused: type[CallRefused | SimulationRefused]) -> None:
    error = of_read_error(refused("internal", "the database failed: see the node's log"))
    assert (error.code, error.message) == (INTERNAL_ERROR, "the database failed: see the node's log")


@pytest.mark.parametrize(("refused", "code"), [(CallRefused, SERVER_ERROR), (SimulationRefused, INVALID_PARAMS)])
def test_what_is_the_callers_fault_is_not(refused: type[CallRefused | SimulationRefused], code: int) -> None:
    assert of_read_error(refused("invalid", "nonce: expected a 64-bit number")).code == code
