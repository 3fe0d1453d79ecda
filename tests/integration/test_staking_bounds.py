"""What no bug of many validators at once can do: jail more than the cap, empty the set, keep a seat without stake."""

from consensus.staking_params import StakingParams
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.staking_chains import BWT, EPOCH_LENGTH, StakingChain, operator_of, staking_genesis

CAP = 1
GENESIS = staking_genesis(
    8, params=StakingParams(downtime_window=8, downtime_jail_ms=1_000_000, max_jailed_per_epoch=CAP)
)
SICK = (6, 7)
"""As many as the chain can miss: with one more it stands still."""


def jailed(chain: StakingChain) -> set[int]:
    return {number for number in range(8) if chain.view("validator", operator_of(number))["jailed"]}


def test_a_bug_that_many_share_jails_no_more_than_the_cap_in_an_epoch() -> None:
    chain = StakingChain(genesis=GENESIS)
    by_epoch = []
    for epoch in range(1, 4):
        chain.advance_to(epoch * EPOCH_LENGTH - 1, absent=SICK)
        by_epoch.append(jailed(chain))
    # Each epoch closes two windows, and the two missed both of the first epoch.
    assert [len(found) for found in by_epoch] == [1, 2, 2]
    assert by_epoch[-1] == set(SICK)
    assert chain.voters == {operator_of(number) for number in range(8) if number not in SICK}
    assert not any(call.failure for height in range(1, chain.head_height + 1) for call in chain.protocol_log(height))


def test_a_set_whose_members_all_signed_twice_goes_on_rather_than_be_empty() -> None:
    chain = StakingChain(genesis=staking_genesis(4))
    chain.advance_to(3)
    members = chain.voters
    chain.step(evidence=tuple(chain.raw_double_precommit(number, 2) for number in range(4)))
    assert all(chain.view("validator", operator_of(number))["tombstoned"] for number in range(4))
    chain.advance_to(2 * EPOCH_LENGTH + 2)
    assert chain.voters == members
    assert chain.view("candidates") == ()
    # Whoever registers now is the only one who can be elected, and is.
    chain.step([chain.registration(0, 0, 5, 40 * BWT)])
    chain.advance_to(3 * EPOCH_LENGTH, absent=())
    assert chain.voters == {DEVNET_ACCOUNTS[0].address}


def test_stake_below_the_minimum_leaves_the_set_at_the_next_election() -> None:
    chain = StakingChain(genesis=staking_genesis(4))
    chain.advance_to(3)
    chain.step([chain.registration(0, 0, 5, 32 * BWT)])
    chain.advance_to(EPOCH_LENGTH + 1)
    joined = DEVNET_ACCOUNTS[0].address
    assert joined in chain.voters
    chain.step([chain.send(0, 1, "undelegate", joined, 1)])
    assert joined in chain.voters, "constant within an epoch"
    chain.advance_to(2 * EPOCH_LENGTH)
    assert joined not in chain.voters
