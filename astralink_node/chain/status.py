"""Where a database stands, as the node asks at its start and gateways at theirs."""

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import Status
from astralink_node.evm.blocks import encode_header
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.header_rules import child_base_fee
from astralink_node.storage.store import Reader
from consensus.proposer_selection import encode_priorities


def status_of(reader: Reader, rules: ChainRules, genesis_hash: bytes) -> Status:
    ledger = Ledger(reader)
    head = ledger.head()
    header = ledger.header(head.height)
    return Status(
        chain_id=rules.chain_id,
        genesis_hash=genesis_hash,
        head_height=head.height,
        head_hash=head.block_hash,
        head_time_ms=ledger.payload(head.height).time_ms,
        head_certificate=ledger.certificate(head.height),
        head_raw_header=encode_header(header),
        next_base_fee_wei=child_base_fee(rules, header),
        next_gas_limit=header.gas_limit,
        voting_set=ledger.raw_validator_set(head.height + 1),
        next_set=ledger.raw_validator_set(head.height + 2),
        priorities=encode_priorities(ledger.priorities(head.height + 1)),
        checkpoint_epoch=ledger.latest_checkpoint_epoch(),
    )
