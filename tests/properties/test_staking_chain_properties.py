"""Whatever happens on a chain with staking, its contract and the reference ledger agree, and whoever replays it too."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from astralink_node.chain.messages import Commit, Committed, Valid, Validate
from astralink_node.types import Address
from tests.support.staking_chains import QUICK, Reference, StakingChain, operator_of, staking_genesis

VALIDATORS = 7
EPOCH_LENGTH = 12
"""Shorter than two downtime windows, so that each epoch ends with a remainder."""
GENESIS = staking_genesis(VALIDATORS, params=QUICK, epoch_length=EPOCH_LENGTH, stakes_bwt=[32, 40, 50, 60, 64, 70, 90])


@dataclass(frozen=True)
class Event:
    """What happens in one block."""

    absent: int | None
    late_round: bool
    seconds: int
    guilty: int | None
    """Who turns out to have precommitted twice at the height before."""


EVENTS = st.builds(
    Event,
    absent=st.none() | st.integers(0, VALIDATORS - 1),
    late_round=st.sampled_from([False, False, False, True]),
    seconds=st.sampled_from([0, 1, 1, 2, 3_600]),
    guilty=st.sampled_from([None] * 12 + list(range(3))),
)


@settings(max_examples=12, deadline=None)
@given(
    events=st.lists(EVENTS, min_size=EPOCH_LENGTH, max_size=3 * EPOCH_LENGTH), habitually_absent=st.sampled_from([3, 4])
)
def test_contract_reference_and_replay_agree(events: list[Event], habitually_absent: int) -> None:
    chain, reference, replayed = StakingChain(genesis=GENESIS), Reference(GENESIS), StakingChain(genesis=GENESIS)
    convicted: set[int] = set()
    for event in events:
        guilty = event.guilty
        height = chain.head_height
        if guilty in convicted or height < 1 or operator_of(guilty or 0) not in voters_at(chain, height):
            guilty = None
        evidence = [] if guilty is None else [chain.raw_double_precommit(guilty, height)]
        absent = [habitually_absent if event.absent is None else event.absent]
        committed = chain.step(
            evidence=evidence,
            absent=absent if keeps_quorum(chain, absent) else [],
            decided_in=int(event.late_round),
            seconds=event.seconds,
        )
        tombstoned: dict[Address, tuple[int, int]] = {}
        if guilty is not None:
            convicted.add(guilty)
            power = next(one.power for one in members_at(chain, height) if one.operator == operator_of(guilty))
            tombstoned[operator_of(guilty)] = (power, height // EPOCH_LENGTH)
        reference.before_transactions(committed, tombstoned)
        reference.after_transactions(committed)
        assert reference.differences(chain) == []
        assert [call for call in chain.protocol_log() if call.failure] == []
        decided = chain.execution.decided(chain.head_height)
        assert replayed.execution.validate(Validate(decided.raw_block)) == Valid(committed.block.block_hash)
        again = replayed.execution.commit(Commit(committed.block.block_hash, decided.certificate))
        assert isinstance(again, Committed)
        assert again == committed
    bonded, unbonding, owed, *_ = chain.view("totals")
    assert chain.balance() == bonded + unbonding + owed + chain.view("pending_burn")


def members_at(chain: StakingChain, height: int) -> tuple:
    return chain.execution.context.voting_set_at(height).validators


def voters_at(chain: StakingChain, height: int) -> set[bytes]:
    return {member.operator for member in members_at(chain, height)}


def keeps_quorum(chain: StakingChain, absent: list[int]) -> bool:
    voting_set = chain.execution.context.voting_set
    missing = chain.indices(absent)
    return voting_set.has_quorum(
        sum(member.power for index, member in enumerate(voting_set.validators) if index not in missing)
    )
