"""Parameters out of bounds are named; timeouts grow linearly; epochs and elections fall where the design says."""

import pytest

from consensus.beacon import next_prev_randao
from consensus.epoch import epoch_of, first_height, is_election, is_last, last_height, next_election
from consensus.params import ConsensusParams, ParamsError


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"propose_timeout_ms": 0}, "propose_timeout_ms"),
        ({"min_block_interval_ms": -1}, "min_block_interval_ms"),
        ({"precision_ms": 2**60}, "precision_ms"),
        ({"message_delay_ms": 9}, "message_delay_ms"),
        ({"message_delay_ms": 3_600_001}, "message_delay_ms"),
        ({"evidence_max_age_ms": 30 * 86_400_000}, "unbonding_ms"),
        ({"unbonding_ms": 2 * 86_400_000}, "unbonding_ms"),
    ],
)
def test_a_parameter_out_of_bounds_is_named(change, field):
    with pytest.raises(ParamsError) as caught:
        ConsensusParams(**change)
    assert caught.value.field == field
    assert str(caught.value.found) in str(caught.value)


def test_timeouts_grow_linearly():
    params = ConsensusParams()
    for timeout in (params.propose_timeout_at, params.prevote_timeout_at, params.precommit_timeout_at):
        growth = {timeout(round_ + 1) - timeout(round_) for round_ in range(50)}
        assert growth == {500}


def test_the_message_delay_grows_by_a_tenth_rounded_down_up_to_an_hour():
    params = ConsensusParams(message_delay_ms=15)
    assert [params.message_delay_at(round_) for round_ in range(5)] == [15, 16, 17, 18, 19]
    assert ConsensusParams().message_delay_at(1) == 2_200
    assert ConsensusParams().message_delay_at(65_535) == 3_600_000


def test_an_epoch_runs_from_its_first_height_to_its_last():
    assert [epoch_of(height, 100) for height in (0, 1, 99, 100, 199, 200)] == [0, 0, 0, 1, 1, 2]
    assert (first_height(2, 100), last_height(2, 100)) == (200, 299)
    assert [height for height in range(300) if is_last(height, 100)] == [99, 199, 299]


def test_the_election_is_one_block_before_the_last():
    assert [height for height in range(300) if is_election(height, 100)] == [98, 198, 298]
    assert [height for height in range(9) if is_election(height, 3)] == [1, 4, 7]


def test_the_next_election_is_the_first_above_a_height():
    assert [next_election(height, 3) for height in range(-1, 8)] == [1, 1, 4, 4, 4, 7, 7, 7, 10]
    for length in (3, 7, 100):
        for height in range(250):
            above = [each for each in range(height + 1, height + 2 * length + 1) if is_election(each, length)]
            assert next_election(height, length) == above[0]


def test_lengths_and_heights_without_meaning_are_refused():
    with pytest.raises(ValueError, match="epoch_length"):
        epoch_of(5, 2)
    with pytest.raises(ValueError, match="height"):
        epoch_of(-1, 3)


def test_the_beacon_needs_a_whole_value_and_a_whole_reveal():
    with pytest.raises(ValueError, match="prev_randao"):
        next_prev_randao(bytes(31), bytes(96))
    with pytest.raises(ValueError, match="reveal"):
        next_prev_randao(bytes(32), b"")
