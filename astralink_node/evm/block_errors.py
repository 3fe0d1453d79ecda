"""Why a block is invalid: the rule, what it demands, and what was found."""

from enum import StrEnum

from astralink_node.errors import AstraLinkError


class BlockRule(StrEnum):
    """The rule that a block breaks; the value is what logs and the proposer's peers read."""

    ENCODING = "block encoding"
    SIZE = "block size (EIP-7934)"
    PARENT_HASH = "parent hash"
    NUMBER = "number"
    TIMESTAMP = "timestamp"
    GAS_LIMIT = "gas limit"
    GAS_ABOVE_LIMIT = "gas used above the gas limit"
    BASE_FEE = "base fee per gas (EIP-1559)"
    EXTRA_DATA = "extra data"
    FEE_PARAMETERS = "fee parameters"
    OMMERS = "no ommers"
    DIFFICULTY = "difficulty and nonce zero (EIP-3675)"
    BLOB_GAS_USED = "blob gas used"
    EXCESS_BLOB_GAS = "excess blob gas (EIP-4844, 7918)"
    WITHDRAWALS = "no withdrawals"
    WITHDRAWALS_ROOT = "withdrawals root (EIP-4895)"
    TRANSACTIONS_ROOT = "transactions root"
    TRANSACTION = "transaction"
    DEPOSIT_EVENT = "deposit event layout (EIP-6110)"
    SYSTEM_CONTRACT_EMPTY = "system contract without code"
    SYSTEM_CALL_FAILED = "system call"
    REQUESTS = "requests hash (EIP-7685)"
    GAS_USED = "gas used"
    LOGS_BLOOM = "logs bloom"
    RECEIPTS_ROOT = "receipts root"
    STATE_ROOT = "state root"


class InvalidBlock(AstraLinkError):
    """A block that may not be in the chain."""

    def __init__(self, rule: BlockRule, expected: str, found: str) -> None:
        super().__init__(f"{rule.value}: expected {expected}, found {found}")
        self.rule = rule
        self.expected = expected
        self.found = found
