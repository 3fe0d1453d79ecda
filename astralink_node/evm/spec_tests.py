"""Runs Ethereum's execution-spec-tests fixtures on our pipeline: state tests and blockchain tests.

A case passes only if the state roots, logs and hashes are the expected ones and an invalid transaction or block
is refused for (one of) the expected reasons, by the fixtures' own names. Cases that need blob transactions
cannot pass on this chain; their error says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from astralink_node.crypto.keccak import keccak256
from astralink_node.errors import AstraLinkError
from astralink_node.evm.block_errors import BlockRule, InvalidBlock
from astralink_node.evm.blocks import (
    Block,
    Header,
    MalformedBlock,
    decode_ethereum_block,
    encode_logs,
    ethereum_block_rlp,
)
from astralink_node.evm.fork_rules import ChainRules, fork_named, plain_ethereum
from astralink_node.evm.header_rules import validate_header
from astralink_node.evm.pipeline import BlockContext, BlockExecution, execute_block
from astralink_node.evm.scratch_state import ScratchState, parse_bytes, parse_integer
from astralink_node.evm.transactions import (
    BLOB_TYPE,
    BlobTransactionUnsupported,
    InvalidTransaction,
    TransactionRule,
    decode_transaction,
    recover_sender,
)
from astralink_node.types import Address, Hash32

_TRANSACTION: Final = "TransactionException."
_BLOCK: Final = "BlockException."

TRANSACTION_EXCEPTIONS: Final[Mapping[TransactionRule, frozenset[str]]] = {
    TransactionRule.ENCODING: frozenset(
        {
            "ADDRESS_TOO_LONG",
            "ADDRESS_TOO_SHORT",
            "GASLIMIT_OVERFLOW",
            "GASPRICE_OVERFLOW",
            "NONCE_OVERFLOW",
            "NONCE_TOO_BIG",
            "PRIORITY_OVERFLOW",
            "VALUE_OVERFLOW",
            "INVALID_SIGNATURE_VRS",
            "RLP_ERROR_EOF",
            "RLP_ERROR_SIZE",
            "RLP_ERROR_SIZE_LEADING_ZEROS",
            "RLP_INVALID_ACCESS_LIST_ADDRESS_TOO_LONG",
            "RLP_INVALID_ACCESS_LIST_ADDRESS_TOO_SHORT",
            "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_LONG",
            "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_SHORT",
            "RLP_INVALID_DATA",
            "RLP_INVALID_GASLIMIT",
            "RLP_INVALID_HEADER",
            "RLP_INVALID_NONCE",
            "RLP_INVALID_SIGNATURE_R",
            "RLP_INVALID_SIGNATURE_S",
            "RLP_INVALID_TO",
            "RLP_INVALID_VALUE",
            "RLP_LEADING_ZEROS_BASEFEE",
            "RLP_LEADING_ZEROS_DATA_SIZE",
            "RLP_LEADING_ZEROS_GASLIMIT",
            "RLP_LEADING_ZEROS_GASPRICE",
            "RLP_LEADING_ZEROS_NONCE",
            "RLP_LEADING_ZEROS_NONCE_SIZE",
            "RLP_LEADING_ZEROS_PRIORITY_FEE",
            "RLP_LEADING_ZEROS_R",
            "RLP_LEADING_ZEROS_S",
            "RLP_LEADING_ZEROS_V",
            "RLP_LEADING_ZEROS_VALUE",
            "TYPE_NOT_SUPPORTED",
        }
    ),
    TransactionRule.TYPE: frozenset({"TYPE_NOT_SUPPORTED"}),
    TransactionRule.CHAIN_ID: frozenset({"INVALID_CHAINID"}),
    TransactionRule.SIGNATURE: frozenset(
        {"INVALID_SIGNATURE_VRS", "EC_RECOVERY_FAIL", "RLP_INVALID_SIGNATURE_R", "RLP_INVALID_SIGNATURE_S"}
    ),
    TransactionRule.NONCE_MAX: frozenset({"NONCE_IS_MAX", "NONCE_TOO_BIG", "NONCE_OVERFLOW"}),
    TransactionRule.NONCE_TOO_LOW: frozenset({"NONCE_MISMATCH_TOO_LOW"}),
    TransactionRule.NONCE_TOO_HIGH: frozenset({"NONCE_MISMATCH_TOO_HIGH"}),
    TransactionRule.SENDER_HAS_CODE: frozenset({"SENDER_NOT_EOA"}),
    TransactionRule.PRIORITY_ABOVE_MAX_FEE: frozenset(
        {"PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS", "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS_2"}
    ),
    TransactionRule.FEE_BELOW_BASE_FEE: frozenset({"INSUFFICIENT_MAX_FEE_PER_GAS"}),
    TransactionRule.FUNDS: frozenset({"INSUFFICIENT_ACCOUNT_FUNDS", "GASLIMIT_PRICE_PRODUCT_OVERFLOW"}),
    # One rule in the specifications, the greater of the two amounts; fixtures name it by either.
    TransactionRule.INTRINSIC_GAS: frozenset({"INTRINSIC_GAS_TOO_LOW", "INTRINSIC_GAS_BELOW_FLOOR_GAS_COST"}),
    TransactionRule.FLOOR_GAS: frozenset({"INTRINSIC_GAS_BELOW_FLOOR_GAS_COST", "INTRINSIC_GAS_TOO_LOW"}),
    TransactionRule.GAS_CAP: frozenset({"GAS_LIMIT_EXCEEDS_MAXIMUM"}),
    TransactionRule.BLOCK_GAS: frozenset({"GAS_ALLOWANCE_EXCEEDED"}),
    TransactionRule.INITCODE_SIZE: frozenset({"INITCODE_SIZE_EXCEEDED"}),
    TransactionRule.SET_CODE_EMPTY: frozenset({"TYPE_4_EMPTY_AUTHORIZATION_LIST"}),
    TransactionRule.SET_CODE_CREATE: frozenset({"TYPE_4_TX_CONTRACT_CREATION"}),
    TransactionRule.AUTHORIZATION_ENCODING: frozenset(
        {
            "TYPE_4_INVALID_AUTHORIZATION_FORMAT",
            "TYPE_4_INVALID_AUTHORITY_SIGNATURE",
            "TYPE_4_INVALID_AUTHORITY_SIGNATURE_S_TOO_HIGH",
        }
    ),
}

BLOCK_EXCEPTIONS: Final[Mapping[BlockRule, frozenset[str]]] = {
    BlockRule.ENCODING: frozenset(
        {
            "RLP_STRUCTURES_ENCODING",
            "INCORRECT_BLOCK_FORMAT",
            "RLP_WITHDRAWALS_NOT_READ",
            "RLP_INVALID_FIELD_OVERFLOW_64",
            "RLP_INVALID_ADDRESS",
            "IMPORT_IMPOSSIBLE_LEGACY",
            "IMPORT_IMPOSSIBLE_LONDON_OVER_PARIS",
            "IMPORT_IMPOSSIBLE_PARIS_OVER_SHANGHAI",
            "IMPORT_IMPOSSIBLE_UNCLES_OVER_PARIS",
            "TOO_MANY_UNCLES",
        }
    ),
    BlockRule.SIZE: frozenset({"RLP_BLOCK_LIMIT_EXCEEDED"}),
    BlockRule.PARENT_HASH: frozenset({"UNKNOWN_PARENT", "UNKNOWN_PARENT_ZERO"}),
    BlockRule.NUMBER: frozenset({"INVALID_BLOCK_NUMBER"}),
    BlockRule.TIMESTAMP: frozenset({"INVALID_BLOCK_TIMESTAMP_OLDER_THAN_PARENT"}),
    BlockRule.GAS_LIMIT: frozenset({"INVALID_GASLIMIT", "GASLIMIT_TOO_BIG"}),
    BlockRule.GAS_ABOVE_LIMIT: frozenset({"INVALID_GAS_USED_ABOVE_LIMIT", "GAS_USED_OVERFLOW"}),
    BlockRule.BASE_FEE: frozenset({"INVALID_BASEFEE_PER_GAS"}),
    BlockRule.EXTRA_DATA: frozenset({"EXTRA_DATA_TOO_BIG"}),
    BlockRule.OMMERS: frozenset({"IMPORT_IMPOSSIBLE_UNCLES_OVER_PARIS", "INVALID_UNCLES_HASH"}),
    BlockRule.DIFFICULTY: frozenset(
        {"IMPORT_IMPOSSIBLE_DIFFICULTY_OVER_PARIS", "IMPORT_IMPOSSIBLE_PARIS_WRONG_POW", "INVALID_DIFFICULTY"}
    ),
    BlockRule.BLOB_GAS_USED: frozenset({"INCORRECT_BLOB_GAS_USED", "BLOB_GAS_USED_ABOVE_LIMIT"}),
    BlockRule.EXCESS_BLOB_GAS: frozenset({"INCORRECT_EXCESS_BLOB_GAS"}),
    BlockRule.WITHDRAWALS_ROOT: frozenset({"INVALID_WITHDRAWALS_ROOT"}),
    BlockRule.TRANSACTIONS_ROOT: frozenset({"INVALID_TRANSACTIONS_ROOT"}),
    BlockRule.DEPOSIT_EVENT: frozenset({"INVALID_DEPOSIT_EVENT_LAYOUT"}),
    BlockRule.SYSTEM_CONTRACT_EMPTY: frozenset({"SYSTEM_CONTRACT_EMPTY"}),
    BlockRule.SYSTEM_CALL_FAILED: frozenset({"SYSTEM_CONTRACT_CALL_FAILED"}),
    BlockRule.REQUESTS: frozenset({"INVALID_REQUESTS"}),
    BlockRule.GAS_USED: frozenset({"INVALID_GAS_USED"}),
    BlockRule.LOGS_BLOOM: frozenset({"INVALID_LOG_BLOOM"}),
    BlockRule.RECEIPTS_ROOT: frozenset({"INVALID_RECEIPTS_ROOT"}),
    BlockRule.STATE_ROOT: frozenset({"INVALID_STATE_ROOT"}),
}


class CaseFailed(AstraLinkError):
    """The outcome is not the fixture's."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    name: str
    fork: str
    passed: bool
    state_root: bytes
    error: str
    """Why the case failed; for a passed one, the reason for which its transaction or last block was refused."""


Prepare = Callable[[BlockExecution], None]
"""Is given each execution before it starts, to set what watches it."""


def run_fixture(fixture: Mapping[str, Any], prepare: Prepare | None = None) -> Iterator[CaseResult]:
    """Every case of a fixture file, of either format."""
    for name, case in fixture.items():
        if "blocks" in case:
            yield run_block_case(name, case, prepare)
        else:
            yield from run_state_case(name, case, prepare)


# --- State tests -----------------------------------------------------------------------------------------------


def run_state_case(name: str, case: Mapping[str, Any], prepare: Prepare | None = None) -> Iterator[CaseResult]:
    """One result for each fork and index combination of the case."""
    for fork, posts in case["post"].items():
        for position, post in enumerate(posts):
            full_name = name if len(posts) == 1 else f"{name}[{position}]"
            state_root = b""
            try:
                rules = plain_ethereum(fork_named(fork), _chain_id(case))
                state_root, refusal = _apply_state_test(rules, case, post, prepare)
                _check_refusal(post.get("expectException"), refusal)
                _check_hash("state root", parse_bytes(post["hash"]), state_root)
                yield _passed(full_name, fork, state_root, refusal)
            except AstraLinkError as error:
                yield _failed(full_name, fork, state_root, error)


def _apply_state_test(
    rules: ChainRules, case: Mapping[str, Any], post: Mapping[str, Any], prepare: Prepare | None
) -> tuple[Hash32, InvalidTransaction | None]:
    state = ScratchState(case["pre"])
    overlay = state.overlay()
    execution = BlockExecution(rules, context_of_environment(case["env"]), overlay)
    if prepare is not None:
        prepare(execution)
    try:
        transaction = decode_transaction(parse_bytes(post["txbytes"]))
        receipt = execution.apply_transaction(transaction, recover_sender(transaction))
    except BlobTransactionUnsupported:
        raise
    except InvalidTransaction as refusal:
        return state.root_after(overlay), refusal
    _check_hash("logs", parse_bytes(post["logs"]), keccak256(encode_logs(receipt.logs)))
    return state.root_after(overlay), None


def context_of_environment(environment: Mapping[str, Any]) -> BlockContext:
    """A block context from a fixture's ``env``, whose block hashes are made up: keccak of the decimal height."""
    return BlockContext(
        number=parse_integer(environment["currentNumber"]),
        timestamp=parse_integer(environment["currentTimestamp"]),
        coinbase=Address(parse_bytes(environment["currentCoinbase"], length=20)),
        gas_limit=parse_integer(environment["currentGasLimit"]),
        base_fee_per_gas=parse_integer(environment["currentBaseFee"]),
        prev_randao=Hash32(parse_integer(environment["currentRandom"]).to_bytes(32, "big")),
        excess_blob_gas=parse_integer(environment.get("currentExcessBlobGas", 0)),
        ancestor_hash=lambda number: keccak256(str(number).encode()),
    )


# --- Blockchain tests --------------------------------------------------------------------------------------------


class _Chain:
    """The valid blocks so far and the state after them."""

    def __init__(self, rules: ChainRules, case: Mapping[str, Any], prepare: Prepare | None) -> None:
        self.rules = rules
        self.prepare = prepare
        self.state = ScratchState(case["pre"])
        genesis = _decode_block(parse_bytes(case["genesisRLP"])).header
        _check_hash("genesis", parse_bytes(case["genesisBlockHeader"]["hash"]), genesis.hash)
        _check_hash("genesis state root", genesis.state_root, self.state.root)
        self.headers: list[Header] = [genesis]

    def import_block(self, raw_block: bytes) -> None:
        block = _decode_block(raw_block)
        header = block.header
        if any(raw[0] == BLOB_TYPE for raw in block.raw_transactions):
            raise BlobTransactionUnsupported
        validate_header(self.rules, header, self.headers[-1])
        overlay = self.state.overlay()
        execute_block(self.rules, block, overlay, ancestor_hash=self._ancestor_hash, prepare=self.prepare)
        state_root = self.state.root_after(overlay)
        if state_root != header.state_root:
            raise InvalidBlock(BlockRule.STATE_ROOT, f"0x{state_root.hex()}", f"0x{header.state_root.hex()}")
        self.state.commit(overlay)
        self.headers.append(header)

    def _ancestor_hash(self, number: int) -> bytes:
        return self.headers[number].hash if number < len(self.headers) else b""


def run_block_case(name: str, case: Mapping[str, Any], prepare: Prepare | None = None) -> CaseResult:
    fork, state_root, refusal = str(case["network"]), b"", None
    try:
        chain = _Chain(plain_ethereum(fork_named(fork), _chain_id(case)), case, prepare)
        for fixture_block in case["blocks"]:
            refusal = _import(chain, parse_bytes(fixture_block["rlp"]))
            _check_refusal(fixture_block.get("expectException"), refusal)
        state_root = chain.state.root
        _check_hash("last block", parse_bytes(case["lastblockhash"]), chain.headers[-1].hash)
    except AstraLinkError as error:
        return _failed(name, fork, state_root, error)
    return _passed(name, fork, state_root, refusal)


def _import(chain: _Chain, raw_block: bytes) -> InvalidBlock | InvalidTransaction | None:
    try:
        chain.import_block(raw_block)
    except BlobTransactionUnsupported:
        raise
    except (InvalidBlock, InvalidTransaction) as refusal:
        return refusal
    return None


def _decode_block(raw_block: bytes) -> Block:
    try:
        block = decode_ethereum_block(raw_block)
    except MalformedBlock as error:
        raise InvalidBlock(BlockRule.ENCODING, error.expected, error.found) from None
    if ethereum_block_rlp(block) != raw_block:
        raise InvalidBlock(BlockRule.ENCODING, "canonical RLP", "another encoding of the same block")
    return block


# --- Checks ------------------------------------------------------------------------------------------------------


def exception_names(refusal: InvalidBlock | InvalidTransaction) -> frozenset[str]:
    """The fixtures' names for the rule that was broken."""
    if isinstance(refusal, InvalidTransaction):
        return frozenset(_TRANSACTION + name for name in TRANSACTION_EXCEPTIONS.get(refusal.rule, ()))
    return frozenset(_BLOCK + name for name in BLOCK_EXCEPTIONS.get(refusal.rule, ()))


def _check_refusal(expected: str | None, refusal: InvalidBlock | InvalidTransaction | None) -> None:
    if expected is None:
        if refusal is not None:
            raise CaseFailed(f"refused what is valid: {refusal}")
        return
    if refusal is None:
        raise CaseFailed(f"expected {expected}, but it was accepted")
    if exception_names(refusal).isdisjoint(expected.split("|")):
        raise CaseFailed(f"expected {expected}, but it was refused for another reason: {refusal}")


def _passed(name: str, fork: str, state_root: bytes, refusal: InvalidBlock | InvalidTransaction | None) -> CaseResult:
    reason = "" if refusal is None else str(refusal)
    return CaseResult(name=name, fork=fork, passed=True, state_root=state_root, error=reason)


def _failed(name: str, fork: str, state_root: bytes, error: AstraLinkError) -> CaseResult:
    return CaseResult(name=name, fork=fork, passed=False, state_root=state_root, error=str(error))


def _check_hash(name: str, expected: bytes, found: bytes) -> None:
    if expected != found:
        raise CaseFailed(f"{name}: expected 0x{expected.hex()}, found 0x{found.hex()}")


def _chain_id(case: Mapping[str, Any]) -> int:
    return parse_integer(case.get("config", {}).get("chainid", 1))
