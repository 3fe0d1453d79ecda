"""What went wrong in a call, in the words that geth has for it."""

from __future__ import annotations

from typing import Final

from eth.exceptions import InsufficientStack, OutOfGas, VMError

STACK_UNDERFLOW: Final = "stack underflow"
SSTORE_SENTRY: Final = "Net-metered SSTORE always fails below 2300 gas, per EIP-2200"
"""py-evm's words for it, the first argument of its OutOfGas."""


def describe(error: VMError) -> str:
    """The kind of failure; only a traced run knows the numbers of a stack underflow."""
    if isinstance(error, InsufficientStack):
        return str(error) if str(error).startswith(STACK_UNDERFLOW) else STACK_UNDERFLOW
    if isinstance(error, OutOfGas) and error.args[:1] == (SSTORE_SENTRY,):
        return "out of gas: not enough gas for reentrancy sentry"
    return _DESCRIPTIONS.get(type(error).__name__) or str(error) or type(error).__name__


_DESCRIPTIONS: Final = {
    "OutOfGas": "out of gas",
    "CodeDepositOutOfGas": "contract creation code storage out of gas",
    "CodeTooLarge": "max code size exceeded",
    "Revert": "execution reverted",
    "FullStack": "stack limit reached 1024 (1023)",
    "InvalidJumpDestination": "invalid jump destination",
    "WriteProtection": "write protection",
    "OutOfBoundsRead": "return data out of bounds",
    "ContractCreationCollision": "contract address collision",
    "ReservedBytesInCode": "invalid code: must not begin with 0xef",
}
