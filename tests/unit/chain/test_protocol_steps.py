"""The protocol's walk in a block: what fails leaves a note and a valid block; everybody derives the same."""

from dataclasses import replace

import pytest

from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import AtHeight, AtLatest, NotFound, Query, Valid, Validate
from astralink_node.chain.prepared import ProtocolOutcome
from astralink_node.chain.protocol_messages import ProtocolLogAnswer, ProtocolLogQuestion
from astralink_node.chain.protocol_steps import EVERYBODY
from astralink_node.chain.staking_contract import StakingContract
from astralink_node.crypto import bls
from astralink_node.evm.blocks import decode_header
from astralink_node.evm.system_calls import requests_hash
from astralink_node.types import Address
from tests.support.chains import BURNER, COUNTER, LOGGER, REVERTER, LocalChain, commit_certificate, secrets_of
from tests.support.staking_chains import (
    BWT,
    KNOWN_SECRETS,
    QUICK,
    StakingChain,
    imported,
    operator_of,
    staking_genesis,
)

GENESIS = staking_genesis()
EPOCH = 10
SHORT = staking_genesis(epoch_length=EPOCH)


@pytest.mark.parametrize("contract", [REVERTER, BURNER, LOGGER, COUNTER, Address(b"\xee" * 20)])
def test_a_contract_that_fails_or_answers_rubbish_halts_nothing_and_leaves_the_set(
    contract: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reverts, burns all its gas, returns nothing, changes something else, or is not there at all."""
    monkeypatch.setattr(StakingContract, "address", contract)
    chain, follower = StakingChain(genesis=SHORT), StakingChain(genesis=SHORT)
    before = chain.execution.context.voting_set
    for height in range(1, 2 * EPOCH + 2):
        built = chain.build()
        certificate = chain.certificate(built.block_hash)
        assert follower.execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)
        follower.follow(built, certificate)
        chain.commit(built.block_hash)
        failed = [call.name for call in chain.protocol_log(height) if call.failure]
        assert "begin_block" in failed
        assert ("candidates" in failed) is (height % EPOCH == EPOCH - 2)
        assert chain.protocol_log(height) == follower.protocol_log(height)
    assert chain.execution.context.voting_set == before


def test_a_failed_call_moves_no_balance(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = StakingChain(genesis=SHORT)
    stakes = chain.balance()
    monkeypatch.setattr(StakingContract, "address", REVERTER)
    chain.advance_to(3)
    monkeypatch.undo()
    assert chain.balance() == stakes
    # The next call that succeeds pays for the time in between.
    chain.step()
    assert chain.balance() - stakes == chain.view("totals")[2] > 0


def test_absence_is_not_judged_at_a_height_for_which_nothing_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = StakingChain(genesis=GENESIS)
    chain.advance_to(2)
    with monkeypatch.context() as broken:
        # Height 3 would have recorded who signed for height 2.
        broken.setattr(StakingContract, "address", REVERTER)
        chain.step()
    chain.advance_to(10)
    assert [chain.view("validator", operator_of(number))["missed"] for number in range(4)] == [0] * 4


# --- Absence --------------------------------------------------------------------------------------------------------


def missed(chain: StakingChain) -> list[int]:
    return [chain.view("validator", operator_of(number))["missed"] for number in range(4)]


def test_absence_counts_eight_heights_later() -> None:
    chain = StakingChain(genesis=GENESIS)
    chain.advance_to(8)
    chain.step(absent=[1])
    chain.advance_to(16)
    assert missed(chain) == [0, 0, 0, 0]
    chain.step()
    assert missed(chain) == [0, 1, 0, 0]


def test_a_late_credit_excuses_its_signer_alone() -> None:
    chain = StakingChain(genesis=GENESIS)
    chain.advance_to(8)
    committed = chain.step(absent=[1])
    context = chain.execution.context
    credit = commit_certificate(
        secrets_of(context.parent_voting_set, KNOWN_SECRETS),
        context.genesis_hash,
        9,
        committed.block.block_hash,
        signers=chain.indices([1]),
    )
    chain.step()
    chain.step(late_credits=[credit])
    chain.advance_to(17)
    assert missed(chain) == [0, 0, 0, 0]


def test_nobody_is_absent_at_a_height_decided_above_round_0() -> None:
    chain = StakingChain(genesis=GENESIS)
    chain.advance_to(8)
    chain.step(absent=[1], decided_in=1)
    chain.advance_to(17)
    assert missed(chain) == [0, 0, 0, 0]
    assert EVERYBODY >> 255 == 1


def test_what_is_left_of_an_epoch_after_its_last_window_is_not_counted() -> None:
    chain = StakingChain(genesis=staking_genesis(epoch_length=11))
    chain.advance_to(7)
    for _ in range(3):
        chain.step(absent=[1])
    chain.advance_to(20)
    # Heights 8 to 10 are no window of epoch 0: its only one is 0 to 7.
    assert missed(chain) == [0, 0, 0, 0]


def test_no_more_than_the_bound_are_jailed_in_one_epoch() -> None:
    chain = StakingChain(genesis=staking_genesis(8, epoch_length=32))
    chain.advance_to(7)
    chain.advance_to(16, absent=[6, 7])
    chain.advance_to(24, absent=[4, 5])
    chain.advance_to(32)
    jailed = {number for number in range(8) if chain.view("validator", operator_of(number))["jailed"]}
    assert jailed == {6, 7}
    assert chain.view("jailed_this_epoch") == 0  # height 32 began the next epoch


# --- Elections ------------------------------------------------------------------------------------------------------


def test_a_block_without_an_election_makes_no_request() -> None:
    chain = StakingChain(genesis=SHORT)
    while chain.head_height < EPOCH + 1:
        committed = chain.step()
        assert decode_header(committed.block.raw_header).requests_hash == requests_hash(())
        # The same set was elected: no request either, and the record of its epoch is there.
    assert chain.view("set_record", 1) == (
        chain.execution.context.voting_set.hash,
        Ledger(chain.store).payload(EPOCH - 1).time_ms,
    )
    assert ProtocolOutcome().requests == ()


def test_where_nobody_can_be_elected_the_set_stays() -> None:
    genesis = staking_genesis(1, epoch_length=EPOCH)
    chain = StakingChain(genesis=genesis)
    chain.advance_to(3)
    chain.step(evidence=[chain.raw_double_precommit(0, 2)])
    before = chain.execution.context.voting_set
    chain.advance_to(2 * EPOCH + 1)
    assert chain.execution.context.voting_set == before
    assert chain.view("totals")[8] == 2, "epochs go on"
    assert chain.view("set_record", 2)[0] == before.hash


def test_a_set_whose_keys_add_up_to_nothing_is_not_elected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who owns all keys of a set could make them cancel."""

    def no_sum(keys: object) -> bytes:
        raise bls.InvalidPoint("public keys: their sum is the identity")

    chain = StakingChain(genesis=SHORT)
    chain.step([chain.registration(5, 0, 5, 50 * BWT)])
    before = chain.execution.context.voting_set
    monkeypatch.setattr("astralink_node.chain.protocol_steps.bls.aggregate_public_keys_eip2537", no_sum)
    chain.advance_to(EPOCH + 1)
    assert chain.execution.context.voting_set == before
    assert chain.view("set_record", 1)[0] == before.hash


def test_seats_go_to_the_most_tokens() -> None:
    genesis = staking_genesis(
        4, params=replace(QUICK, max_validators=4), stakes_bwt=[40, 50, 60, 70], epoch_length=EPOCH
    )
    chain = StakingChain(genesis=genesis)
    chain.step([chain.registration(5, 0, 5, 45 * BWT)])
    chain.advance_to(EPOCH)
    assert operator_of(0) not in chain.voters
    assert len(chain.voters) == 4


# --- The protocol log -----------------------------------------------------------------------------------------------


def asked(chain: LocalChain, height: int) -> object:
    return chain.execution.query(Query(AtHeight(height), ProtocolLogQuestion()))


def test_the_protocol_log_is_asked_for_by_height() -> None:
    chain = StakingChain(genesis=SHORT)
    chain.advance_to(EPOCH)
    answer = asked(chain, EPOCH - 2)
    assert isinstance(answer, ProtocolLogAnswer)
    assert (answer.height, answer.block_hash) == (EPOCH - 2, chain.execution.context.block_hash_at(EPOCH - 2))
    (call,) = answer.calls
    assert (call.name, call.failure, len(call.events)) == ("elect", "", 1)
    quiet = asked(chain, 3)
    assert isinstance(quiet, ProtocolLogAnswer)
    assert quiet.calls == ()
    assert isinstance(asked(chain, EPOCH + 1), NotFound)
    assert isinstance(chain.execution.query(Query(AtLatest(), ProtocolLogQuestion())), ProtocolLogAnswer)


def test_a_node_that_joined_at_a_block_does_not_claim_to_know_its_protocol_log() -> None:
    chain = StakingChain(genesis=SHORT)
    chain.advance_to(EPOCH + 5)
    joined = imported(chain, EPOCH - 1)
    assert isinstance(joined.query(Query(AtHeight(EPOCH - 1), ProtocolLogQuestion())), NotFound)
