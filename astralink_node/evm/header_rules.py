"""Which headers may follow which: everything that a header and its parent's decide without execution.

Plain Ethereum follows EIP-1559, 3675, 4844, 4895, 7918 as execution-spec-tests have them; AstraLink follows the
table in docs/specification.md. The consensus payload's rules (time in milliseconds, prev_randao, the payload's
root) belong to whoever knows the payload.
"""

from __future__ import annotations

from typing import Final

from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import EMPTY_OMMERS_HASH, Header
from astralink_node.evm.fee_rules import (
    ETHEREUM_BASE_FEE_DENOMINATOR,
    GAS_LIMIT_BOUND_DIVISOR,
    MIN_GAS_LIMIT,
    FeeParameters,
    InvalidFeeParameters,
    blob_base_fee,
    check_step,
    decode_fee_parameters,
    next_base_fee,
)
from astralink_node.evm.fork_rules import ChainRules, ForkRules
from astralink_node.types import EMPTY_TRIE_ROOT

MAX_EXTRA_DATA_BYTES: Final = 32
ETHEREUM_MIN_GAS_LIMIT: Final = 5_000
ETHEREUM_MAX_GAS_LIMIT: Final = 2**63 - 1

GAS_PER_BLOB: Final = 2**17
TARGET_BLOB_GAS: Final = 6 * GAS_PER_BLOB
"""EIP-7691, Prague; Osaka starts with the same."""
MAX_BLOB_GAS: Final = 9 * GAS_PER_BLOB
BLOB_BASE_COST: Final = 2**13
"""EIP-7918: execution gas a blob pays for at least."""


def validate_header(rules: ChainRules, header: Header, parent: Header) -> None:
    """Raise :class:`InvalidBlock` unless ``header`` may follow ``parent``."""
    _expect(BlockRule.PARENT_HASH, f"0x{parent.hash.hex()}", f"0x{header.parent_hash.hex()}")
    _expect(BlockRule.NUMBER, str(parent.number + 1), str(header.number))
    if header.ommers_hash != EMPTY_OMMERS_HASH:
        raise InvalidBlock(BlockRule.OMMERS, "the hash of no ommers", f"0x{header.ommers_hash.hex()}")
    if header.difficulty or header.nonce != bytes(8):
        raise InvalidBlock(BlockRule.DIFFICULTY, "zero", f"{header.difficulty} and 0x{header.nonce.hex()}")
    if len(header.extra_data) > MAX_EXTRA_DATA_BYTES:
        raise InvalidBlock(
            BlockRule.EXTRA_DATA, f"at most {MAX_EXTRA_DATA_BYTES} bytes", f"{len(header.extra_data)} bytes"
        )
    if header.gas_used > header.gas_limit:
        raise InvalidBlock(BlockRule.GAS_ABOVE_LIMIT, f"at most {header.gas_limit}", str(header.gas_used))
    if rules.fee_bounds is None:
        _validate_ethereum(rules.fork_at(header.number), header, parent)
    else:
        _validate_astralink(rules, header, parent)
    _expect(BlockRule.BASE_FEE, str(child_base_fee(rules, parent)), str(header.base_fee_per_gas))


def child_base_fee(rules: ChainRules, parent: Header) -> int:
    """The base fee of the block after ``parent``, from the parent's header alone."""
    if rules.fee_bounds is None:
        denominator, minimum = ETHEREUM_BASE_FEE_DENOMINATOR, 0
    else:
        parameters = fee_parameters(parent)
        denominator, minimum = parameters.base_fee_denominator, parameters.min_base_fee_wei
    return next_base_fee(
        parent_base_fee=parent.base_fee_per_gas,
        parent_gas_used=parent.gas_used,
        parent_gas_limit=parent.gas_limit,
        denominator=denominator,
        min_base_fee=minimum,
    )


def fee_parameters(header: Header) -> FeeParameters:
    """The fee parameters of an AstraLink header; :class:`InvalidBlock` if it has none."""
    try:
        return decode_fee_parameters(header.extra_data)
    except InvalidFeeParameters as error:
        raise InvalidBlock(BlockRule.FEE_PARAMETERS, "fee parameters", str(error)) from None


def child_excess_blob_gas(fork: ForkRules, parent: Header) -> int:
    """EIP-4844, and from Osaka EIP-7918's reserve price; only a plain Ethereum header can have any."""
    blob_gas = parent.excess_blob_gas + parent.blob_gas_used
    if blob_gas < TARGET_BLOB_GAS:
        return 0
    if fork.blob_reserve_price:
        blob_price = GAS_PER_BLOB * blob_base_fee(parent.excess_blob_gas)
        if BLOB_BASE_COST * parent.base_fee_per_gas > blob_price:
            return parent.excess_blob_gas + parent.blob_gas_used * (MAX_BLOB_GAS - TARGET_BLOB_GAS) // MAX_BLOB_GAS
    return blob_gas - TARGET_BLOB_GAS


def _validate_ethereum(fork: ForkRules, header: Header, parent: Header) -> None:
    if header.timestamp <= parent.timestamp:
        raise InvalidBlock(BlockRule.TIMESTAMP, f"above {parent.timestamp}", str(header.timestamp))
    _check_gas_limit_step(header, parent)
    if not ETHEREUM_MIN_GAS_LIMIT <= header.gas_limit <= ETHEREUM_MAX_GAS_LIMIT:
        raise InvalidBlock(
            BlockRule.GAS_LIMIT, f"{ETHEREUM_MIN_GAS_LIMIT} to {ETHEREUM_MAX_GAS_LIMIT}", str(header.gas_limit)
        )
    _expect(BlockRule.EXCESS_BLOB_GAS, str(child_excess_blob_gas(fork, parent)), str(header.excess_blob_gas))
    _expect(BlockRule.BLOB_GAS_USED, "0 (blob transactions are not carried)", str(header.blob_gas_used), "0")


def _validate_astralink(rules: ChainRules, header: Header, parent: Header) -> None:
    if header.timestamp < parent.timestamp:
        raise InvalidBlock(BlockRule.TIMESTAMP, f"at least {parent.timestamp}", str(header.timestamp))
    _expect(BlockRule.BLOB_GAS_USED, "0", str(header.blob_gas_used))
    _expect(BlockRule.EXCESS_BLOB_GAS, "0", str(header.excess_blob_gas))
    if header.withdrawals_root != EMPTY_TRIE_ROOT:
        raise InvalidBlock(BlockRule.WITHDRAWALS, "the root of nothing", f"0x{header.withdrawals_root.hex()}")
    parameters = fee_parameters(header)
    bounds = rules.fee_bounds
    if bounds is not None:
        try:
            check_step(fee_parameters(parent), parameters, bounds)
        except InvalidFeeParameters as error:
            raise InvalidBlock(BlockRule.FEE_PARAMETERS, "a step within bounds", str(error)) from None
    _expect(BlockRule.GAS_LIMIT, str(parameters.gas_limit), str(header.gas_limit))
    if header.gas_limit < MIN_GAS_LIMIT:
        raise InvalidBlock(BlockRule.GAS_LIMIT, f"at least {MIN_GAS_LIMIT}", str(header.gas_limit))
    _check_gas_limit_step(header, parent)


def _check_gas_limit_step(header: Header, parent: Header) -> None:
    bound = parent.gas_limit // GAS_LIMIT_BOUND_DIVISOR
    if abs(header.gas_limit - parent.gas_limit) >= bound:
        raise InvalidBlock(
            BlockRule.GAS_LIMIT, f"less than {bound} from the parent's {parent.gas_limit}", str(header.gas_limit)
        )


def _expect(rule: BlockRule, expected: str, found: str, expected_value: str | None = None) -> None:
    if found != (expected if expected_value is None else expected_value):
        raise InvalidBlock(rule, expected, found)
