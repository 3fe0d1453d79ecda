"""Several epochs of a chain with staking: the contract, the protocol's walk and the reference ledger agree."""

from astralink_node.chain.commits import rollback_head
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import Commit, Committed, Validate
from astralink_node.crypto import bls
from astralink_node.evm.blocks import decode_header, decode_receipt
from astralink_node.evm.system_calls import requests_hash
from consensus.payload import decode_payload
from consensus.proposer_selection import advance, carry_over
from consensus.validator_set import encode_validator_set
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.chains import candidate, voting_secret
from tests.support.staking_chains import (
    BWT,
    EPOCH_LENGTH,
    Reference,
    StakingChain,
    eventful_chain,
    imported,
    operator_of,
    staking_genesis,
)

GENESIS = staking_genesis()
ELECTION = EPOCH_LENGTH - 2
FIRST_OF_1 = EPOCH_LENGTH


def succeeded(committed: Committed) -> list[bool]:
    return [decode_receipt(receipt.raw_receipt).succeeded for receipt in committed.receipts]


def test_rewards_over_three_epochs_are_the_reference_ledgers_to_the_wei() -> None:
    chain, reference = StakingChain(genesis=GENESIS), Reference(GENESIS)
    for height in range(1, 3 * EPOCH_LENGTH + 3):
        # Fees, absences that stay below an offence, seconds that pass unevenly, and heights decided late.
        committed = chain.step(
            [candidate(0, height - 1)],
            absent=[height % 4] if height % 5 == 0 else [],
            decided_in=1 if height % 7 == 0 else 0,
            time_ms=chain.execution.context.parent_payload.time_ms + 700 * (1 + height % 4),
        )
        reference.follow(committed)
        assert reference.differences(chain) == [], height
    _, _, owed, minted, burned, *_ = chain.view("totals")
    assert owed > 0
    assert minted > 0
    assert burned > 0


def test_whoever_misses_a_window_is_jailed_and_leaves_at_the_boundary() -> None:
    chain, reference = StakingChain(genesis=GENESIS), Reference(GENESIS)
    lazy = operator_of(2)
    for height in range(1, EPOCH_LENGTH + 3):
        reference.follow(chain.step(absent=[2] if height >= 8 else []))
        assert reference.differences(chain) == [], height
        # Heights 8 to 15 are the second window; height 15 is judged at 23, in the next epoch.
        assert lazy in chain.voters
    reference.follow(chain.step(absent=[2]))
    assert reference.differences(chain) == []
    assert chain.head_height == 23
    assert chain.view("validator", lazy)["jailed"] is True
    assert [call.name for call in chain.protocol_log()] == ["close_window"]
    # It votes until the epoch ends, and earns nothing.
    for height in range(24, 2 * EPOCH_LENGTH):
        reference.follow(chain.step(absent=[2]))
        assert (lazy in chain.voters) is (height < 2 * EPOCH_LENGTH - 1)
    assert lazy not in chain.voters
    assert reference.differences(chain) == []
    for _ in range(EPOCH_LENGTH):
        reference.follow(chain.step())
    assert reference.differences(chain) == []


def test_evidence_in_a_block_tombstones_slashes_and_burns() -> None:
    chain, reference = StakingChain(genesis=GENESIS), Reference(GENESIS)
    follower = StakingChain(genesis=GENESIS)
    for _ in range(5):
        committed = chain.step()
        follow(follower, chain, committed)
        reference.follow(committed)
    guilty = operator_of(1)
    raw = chain.raw_double_precommit(1, 4)
    built = chain.build(evidence=[raw])
    assert built.useless_evidence == ()
    committed = chain.commit(built.block_hash)
    follow(follower, chain, committed)
    assert len(decode_payload(committed.block.raw_payload).evidence) == 1
    reference.before_transactions(committed, {guilty: (32, 0)})
    reference.after_transactions(committed)
    assert reference.differences(chain) == []
    record = chain.view("validator", guilty)
    assert (record["tombstoned"], record["jailed"], record["active"]) == (True, True, False)
    assert record["tokens"] == 32 * BWT * 95 // 100
    assert [call.name for call in chain.protocol_log()] == ["slash_double_sign"]
    # Once convicted, no block can carry it again.
    assert chain.build(evidence=[raw]).useless_evidence == (raw,)
    while chain.head_height < EPOCH_LENGTH:
        committed = chain.step()
        follow(follower, chain, committed)
        reference.follow(committed)
    assert reference.differences(chain) == []
    assert guilty not in chain.voters
    assert follower.voters == chain.voters


def test_evidence_of_an_old_set_reaches_whoever_left_it() -> None:
    """The record of a past epoch names the set, the item brings it, and the operator is found by its name."""
    chain = StakingChain(genesis=staking_genesis(epoch_length=10))
    chain.advance_to(3)
    chain.step(evidence=[chain.raw_double_precommit(1, 2)])
    chain.advance_to(15)
    assert operator_of(1) not in chain.voters
    chain.step(evidence=[chain.raw_double_precommit(0, 5)])
    assert chain.view("validator", operator_of(0))["tombstoned"] is True
    log = chain.protocol_log()
    assert [call.name for call in log] == ["slash_double_sign"]
    assert chain.view("slash_record", operator_of(0), 0)[0] == 0, "the epoch of the crime"


def test_an_election_changes_set_and_powers_and_carries_priorities_over() -> None:
    chain, reference = StakingChain(genesis=GENESIS), Reference(GENESIS)
    joiner, stake = DEVNET_ACCOUNTS[5].address, 50 * BWT
    delegator = DEVNET_ACCOUNTS[6].address
    committed = chain.step(
        [
            chain.registration(5, 0, 5, stake),
            chain.send(6, 0, "delegate", operator_of(0), value=7 * BWT),
        ]
    )
    assert succeeded(committed) == [True, True]
    reference.before_transactions(committed)
    key = bls.public_key(voting_secret(5))
    candidate_record = next(one for one in chain.view("candidates") if one["operator"] == joiner)
    reference.ledger.create_validator(
        joiner,
        stake,
        key,
        candidate_record["checkpoint_key_hash"],
        500,
        "validator 5",
        timestamp=reference.timestamp,
    )
    reference.ledger.delegate(delegator, 7 * BWT, operator_of(0), timestamp=reference.timestamp)
    reference.after_transactions(committed)
    assert reference.differences(chain) == []
    while chain.head_height < ELECTION:
        committed = chain.step()
        reference.follow(committed)
    # The block of the election commits to the new set by a request, and the next one by its payload.
    elected = chain.execution.context.next_set
    assert {member.operator: member.power for member in elected.validators} == {
        joiner: 50,
        operator_of(0): 39,
        **{operator_of(number): 32 for number in (1, 2, 3)},
    }
    expected = requests_hash((b"\xa0" + encode_validator_set(elected),))
    assert decode_header(committed.block.raw_header).requests_hash == expected
    assert joiner not in chain.voters
    before, old_set = chain.execution.context.priorities, chain.execution.context.voting_set
    reference.follow(chain.step())
    context = chain.execution.context
    assert context.voting_set == elected
    assert context.parent_payload.next_set_hash == elected.hash
    assert context.priorities == carry_over(advance(before, old_set), old_set, elected)
    for _ in range(EPOCH_LENGTH):
        reference.follow(chain.step())
    assert reference.differences(chain) == []
    assert chain.view("validator", joiner)["commission_wei"] > 0, "the joiner earns once it votes"
    proposers = {
        chain.execution.context.voting_set_at(height)
        .validators[Ledger(chain.store).payload(height).proposer_index]
        .operator
        for height in range(FIRST_OF_1, chain.head_height + 1)
    }
    assert joiner in proposers


def test_a_rotated_voting_key_votes_from_the_next_epoch_on() -> None:
    chain = StakingChain(genesis=GENESIS)
    chain.step([chain.registration(5, 0, 5, 40 * BWT)])
    chain.advance_to(FIRST_OF_1)
    operator = DEVNET_ACCOUNTS[5].address
    old, new = bls.public_key(voting_secret(5)), bls.public_key(voting_secret(6))
    assert chain.execution.context.voting_set.index_of(old) is not None
    committed = chain.step([chain.rotation(5, 1, 6)])
    assert succeeded(committed) == [True]
    chain.advance_to(2 * FIRST_OF_1 - 1)
    voting_set = chain.execution.context.voting_set
    assert voting_set.index_of(old) is None
    index = voting_set.index_of(new)
    assert index is not None
    assert voting_set.validators[index].operator == operator
    # Evidence against the old key still finds the operator.
    raw = chain.raw_double_precommit(5, FIRST_OF_1 + 2)
    chain.step(evidence=[raw])
    assert chain.view("validator", operator)["tombstoned"] is True


# --- Everybody derives the same -----------------------------------------------------------------------------------


def follow(follower: StakingChain, chain: StakingChain, committed: Committed) -> None:
    """The follower validates and commits what the chain has committed."""
    height = decode_header(committed.block.raw_header).number
    decided = chain.execution.decided(height)
    assert follower.execution.validate(Validate(decided.raw_block)).block_hash == committed.block.block_hash
    assert follower.execution.commit(Commit(committed.block.block_hash, decided.certificate)) == committed


def test_whoever_replays_from_genesis_has_the_same_state_sets_and_protocol_log() -> None:
    chain = eventful_chain()
    assert len(chain.execution.context.voting_set) < 5, "the story has an effect"
    replayed = StakingChain(genesis=GENESIS)
    for height in range(1, chain.head_height + 1):
        decided = chain.execution.decided(height)
        block_hash = chain.execution.context.block_hash_at(height)
        assert replayed.execution.validate(Validate(decided.raw_block)).block_hash == block_hash
        assert isinstance(replayed.execution.commit(Commit(block_hash, decided.certificate)), Committed)
        assert replayed.protocol_log(height) == chain.protocol_log(height)
    assert replayed.execution.context.voting_set == chain.execution.context.voting_set
    assert replayed.execution.status() == chain.execution.status()


def test_rolling_back_and_going_forward_again_ends_at_the_same_place() -> None:
    chain = eventful_chain()
    before = dict(chain.store.iterate(b"", b"\xff"))
    decided = [chain.execution.decided(height) for height in range(1, chain.head_height + 1)]
    hashes = [chain.execution.context.block_hash_at(height) for height in range(1, chain.head_height + 1)]
    for _ in range(EPOCH_LENGTH + 10):
        chain.store.write(rollback_head(chain.store), sync=True)
    again = chain.reopened()
    assert again.head_height == chain.head_height - EPOCH_LENGTH - 10
    for height in range(again.head_height + 1, len(decided) + 1):
        again.execution.validate(Validate(decided[height - 1].raw_block))
        again.execution.commit(Commit(hashes[height - 1], decided[height - 1].certificate))
    assert dict(chain.store.iterate(b"", b"\xff")) == before


def test_a_reopened_chain_goes_on_with_the_same_context() -> None:
    chain = StakingChain(genesis=GENESIS)
    chain.step([chain.registration(5, 0, 5, 50 * BWT)])
    while chain.head_height < FIRST_OF_1 + 2:
        chain.step()
        again = chain.reopened().execution.context
        context = chain.execution.context
        assert (again.voting_set, again.next_set, again.parent_voting_set, again.priorities) == (
            context.voting_set,
            context.next_set,
            context.parent_voting_set,
            context.priorities,
        )


def test_a_node_that_joined_by_a_snapshot_goes_on_with_evidence_elections_and_jailings() -> None:
    chain = StakingChain(genesis=GENESIS)
    chain.step([chain.registration(5, 0, 5, 50 * BWT)])
    chain.advance_to(2 * EPOCH_LENGTH - 1)
    joined = imported(chain, 2 * EPOCH_LENGTH - 1)
    crime = chain.raw_double_precommit(5, EPOCH_LENGTH + 3)
    old_crime = chain.raw_double_precommit(2, 3)
    while chain.head_height < 4 * EPOCH_LENGTH:
        evidence = {2 * EPOCH_LENGTH + 1: [crime], 2 * EPOCH_LENGTH + 2: [old_crime]}.get(chain.head_height, [])
        committed = chain.step(evidence=evidence, absent=[3])
        height = chain.head_height
        decided = chain.execution.decided(height)
        assert joined.validate(Validate(decided.raw_block)).block_hash == committed.block.block_hash, height
        assert joined.commit(Commit(committed.block.block_hash, decided.certificate)) == committed
    assert chain.voters == {operator_of(0), operator_of(1)}
    assert joined.context.voting_set == chain.execution.context.voting_set
