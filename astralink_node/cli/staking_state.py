"""What a node says about stake, over JSON-RPC: the astralink_* answers that the staking verbs look into."""

from dataclasses import dataclass
from typing import Any

from astralink_node.cli.node_health import number
from astralink_node.cli.transactions import Rpc
from astralink_node.crypto.addresses import checksum_address
from astralink_node.errors import UserError
from astralink_node.types import Address
from consensus.epoch import epoch_of, first_height, next_election

Answer = dict[str, Any]


class NoStaking(UserError):
    """The chain's validators are those of its genesis file."""


class NotStaked(UserError):
    """Nobody is registered, nothing delegated or nothing due where something was expected."""


@dataclass(frozen=True, slots=True)
class StakingState:
    rpc: Rpc

    def registered(self) -> list[Answer]:
        """Every registered validator."""
        found = self.rpc.call("astralink_getValidators")["registered"]
        if found is None:
            raise NoStaking("this chain has no staking: its validators are those of its genesis file")
        return list(found)

    def validator(self, operator: Address) -> Answer | None:
        wanted = "0x" + operator.hex()
        return next((each for each in self.registered() if each["operator"] == wanted), None)

    def known_validator(self, operator: Address) -> Answer:
        """Raises `NotStaked`."""
        found = self.validator(operator)
        if found is None:
            raise NotStaked(f"no validator of operator {checksum_address(operator)} is registered")
        return found

    def key_in_set(self, operator: Address) -> tuple[str | None, int]:
        """(The voting key with which `operator` decides the next block, None if it does not; the head's height)."""
        found = self.rpc.call("astralink_getValidators", "pending")
        wanted = "0x" + operator.hex()
        keys = [str(each["votingKey"]) for each in found["validators"] if each["operator"] == wanted]
        return keys[0] if keys else None, number(found["number"]) - 1

    def staking(self) -> Answer:
        return dict(self.rpc.call("astralink_getStaking"))

    def election_with(self, height: int) -> tuple[int, int]:
        """(The first election that sees a transaction of block `height`, the first height of the epoch it decides)."""
        length = number(self.staking()["epochLength"])
        # An election sees its own block's transactions.
        election = next_election(height - 1, length)
        return election, first_height(epoch_of(election, length) + 1, length)

    def delegations(self, delegator: Address, *also: Address) -> Answer:
        """`also`: operators that may have been displaced from the list of validators."""
        operators = ["0x" + each.hex() for each in also]
        return dict(self.rpc.call("astralink_getDelegations", "0x" + delegator.hex(), "latest", operators))

    def delegation(self, delegator: Address, operator: Address) -> Answer:
        """With one validator. Raises `NotStaked`."""
        wanted = "0x" + operator.hex()
        for found in self.delegations(delegator, operator)["delegations"]:
            if found["operator"] == wanted:
                return dict(found)
        raise _nothing_delegated(delegator, operator)

    def stake_with(self, delegator: Address, operator: Address) -> Answer:
        """A delegation that holds shares: one that all was taken out of may still have rewards. Raises `NotStaked`."""
        found = self.delegation(delegator, operator)
        if not number(found["shares"]):
            raise _nothing_delegated(delegator, operator)
        return found

    def rewards(self, account: Address) -> Answer:
        return dict(self.rpc.call("astralink_getRewards", "0x" + account.hex()))

    def chain_id(self) -> int:
        return int(self.rpc.call("eth_chainId"), 16)

    def head(self) -> int:
        return int(self.rpc.call("eth_blockNumber"), 16)


def _nothing_delegated(delegator: Address, operator: Address) -> NotStaked:
    return NotStaked(f"{checksum_address(delegator)} has delegated nothing to {checksum_address(operator)}")
