"""What the next block does to the staking contract before its transactions run: for estimates of their gas.

A block begins with rewards, so a call of that block settles what the same call on the head's state would find settled
already. An estimate that left this out would be too low, and wallets send exactly what was estimated.
"""

from dataclasses import replace

from astralink_node.chain.staking_contract import StakingContract, SystemCallFailed
from astralink_node.evm.fork_rules import ChainRules
from astralink_node.evm.overrides import AccountOverride
from astralink_node.evm.pipeline import BlockContext, BlockExecution
from astralink_node.state.flat_state import StateReader
from astralink_node.state.overlay import Overlay
from astralink_node.types import ZERO_ADDRESS


def next_rewards(rules: ChainRules, block: BlockContext, state: StateReader) -> tuple[AccountOverride, ...]:
    """The contract's slots after a second's rewards; nothing on a chain without staking."""
    overlay = Overlay(state)
    execution = BlockExecution(rules, replace(block, timestamp=block.timestamp + 1), overlay)
    contract = StakingContract(execution.system_call)
    try:
        paid = contract.begin_block(
            proposer=ZERO_ADDRESS, credited=1, total=1, parent_base_fees_wei=0, credits=(), judged=0
        )
    except SystemCallFailed:
        return ()
    changed = overlay.changes().storage.get(contract.address, {})
    balance = overlay.get_balance(contract.address) + paid.mint_wei - paid.burn_wei
    return (AccountOverride(contract.address, balance=balance, state_diff=tuple(changed.items())),)
