"""What the committed chain says about the block after any of its blocks: the head's child, or one executed again."""

from dataclasses import dataclass

from astralink_node.chain.consensus_rules import BlockContext
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import HistoryUnavailable
from astralink_node.crypto.keccak import keccak256
from astralink_node.evm.fork_rules import ChainRules
from genesis.schema import GenesisFile


@dataclass(frozen=True, slots=True)
class ChainRecords:
    """A chain's fixed terms, and what one moment of its database holds of it."""

    genesis: GenesisFile
    rules: ChainRules
    genesis_hash: bytes
    ledger: Ledger

    def block_hash_at(self, height: int) -> bytes:
        """Hash of a committed block; empty for a height that is none (BLOCKHASH then gives zero)."""
        raw_header = self.ledger.raw_header(height) if height >= 0 else None
        return b"" if raw_header is None else keccak256(raw_header)

    def missing_state(self, height: int) -> HistoryUnavailable | None:
        """The answer where the state after a committed block is not kept any more; None where it is."""
        oldest = self.ledger.oldest_state_height()
        return HistoryUnavailable(height, oldest) if height < oldest else None

    def context_after(self, parent_height: int) -> BlockContext:
        """Of the child of a committed block whose state is kept: proposer priorities go with the state."""
        ledger = self.ledger
        return BlockContext(
            genesis=self.genesis,
            rules=self.rules,
            genesis_hash=self.genesis_hash,
            parent=ledger.header(parent_height),
            parent_payload=ledger.payload(parent_height),
            parent_voting_set=ledger.validator_set(parent_height),
            voting_set=ledger.validator_set(parent_height + 1),
            next_set=ledger.validator_set(parent_height + 2),
            priorities=ledger.priorities(parent_height + 1),
            latest_checkpoint_epoch=ledger.latest_checkpoint_epoch_at(parent_height),
            block_hash_at=self.block_hash_at,
            voting_set_at=ledger.validator_set,
        )
