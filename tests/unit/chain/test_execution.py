"""The facade: build, validate, commit on two nodes, commit again, and what must never be committed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from astralink_node.chain.errors import ConflictingCommit, InvalidCertificate
from astralink_node.chain.execution import MAX_PREPARED_BLOCKS
from astralink_node.chain.messages import (
    AccountsAnswer,
    AccountsQuestion,
    AtLatest,
    Build,
    Built,
    CannotBuild,
    Commit,
    Committed,
    FeePreference,
    GetStatus,
    Invalid,
    NeedBlock,
    Query,
    Status,
    Valid,
    Validate,
)
from astralink_node.evm.fee_rules import decode_fee_parameters, gas_target_notch
from astralink_node.storage.leveldb import open_leveldb
from astralink_node.storage.store import Store
from genesis.dev_accounts import DEVNET_ACCOUNTS
from tests.support.chains import COUNTER, LOGGER, LocalChain, candidate, commit_certificate


@pytest.fixture
def leveldb(tmp_path: Path) -> Iterator[Store]:
    store = open_leveldb(tmp_path / "chain", create=True)
    yield store
    store.close()


def balance_of(chain: LocalChain, address: bytes) -> int:
    answer = chain.execution.query(Query(AtLatest(), AccountsQuestion((address,))))
    assert isinstance(answer, AccountsAnswer)
    return answer.accounts[0].balance_wei


def test_a_block_built_on_one_node_makes_the_same_head_on_another(leveldb: Store) -> None:
    proposer, follower = LocalChain(), LocalChain(leveldb)
    for height in range(1, 4):
        built = proposer.build(
            [
                candidate(0, height - 1, value=5),
                candidate(1, height - 1, to=COUNTER, gas=60_000),
                candidate(2, height - 1, to=LOGGER, gas=60_000, data=bytes(31) + bytes([height])),
                candidate(3, height - 1, to=b"", gas=100_000, data=bytes.fromhex("600160005360016000f3")),
            ]
        )
        assert built.included == 4
        assert built.stopped_by == "exhausted"
        certificate = proposer.certificate(built.block_hash)
        assert follower.follow(built, certificate) == proposer.commit(built.block_hash)
    assert proposer.execution.status() == follower.execution.status()
    assert balance_of(follower, bytes(19) + b"\x77") == 15


def test_a_reopened_database_stands_at_the_committed_head(leveldb: Store) -> None:
    chain = LocalChain(leveldb)
    chain.produce([candidate(0, 0)])
    status = chain.execution.status()
    assert status.head_height == 1
    again = chain.reopened()
    assert again.execution.status() == status
    assert again.build([candidate(0, 1)]) == chain.build([candidate(0, 1)])


def test_committed_tells_what_the_block_did() -> None:
    chain = LocalChain()
    committed = chain.produce(
        [
            candidate(0, 0, value=9),
            candidate(1, 0, to=LOGGER, gas=60_000, data=bytes(32)),
            candidate(2, 0, to=b"", gas=100_000),
            candidate(3, 0, to=LOGGER, gas=60_000, data=bytes(32)),
        ]
    )
    first, second, third, fourth = committed.receipts
    assert [receipt.first_log_index for receipt in committed.receipts] == [0, 0, 1, 1]
    assert first.gas_used == 21_000
    assert first.contract_address == second.contract_address == fourth.contract_address == b""
    assert len(third.contract_address) == 20
    touched = {account.address: account for account in committed.touched_accounts}
    assert touched[DEVNET_ACCOUNTS[0].address].nonce == 1
    assert touched[bytes(19) + b"\x77"].balance_wei == 9
    assert COUNTER not in touched
    assert committed.next_gas_limit == 30_000_000
    assert committed.block.senders == tuple(DEVNET_ACCOUNTS[index].address for index in range(4))


def test_committing_the_same_block_again_gives_the_same_answer() -> None:
    chain = LocalChain()
    built = chain.build([candidate(0, 0)])
    request = Commit(built.block_hash, chain.certificate(built.block_hash))
    first = chain.execution.commit(request)
    assert chain.execution.commit(request) == first
    assert chain.reopened().execution.commit(request) == first


def test_committing_a_block_below_the_head_again_says_what_it_is() -> None:
    chain = LocalChain()
    first = chain.produce([candidate(0, 0)])
    certificate = chain.execution.status().head_certificate
    chain.produce([candidate(0, 1)])
    again = chain.execution.commit(Commit(first.block.block_hash, certificate))
    assert isinstance(again, Committed)
    assert (again.block, again.receipts) == (first.block, first.receipts)


def test_another_block_at_a_committed_height_is_fatal_and_changes_nothing() -> None:
    chain, other = LocalChain(), LocalChain()
    foreign = other.build([candidate(5, 0)])
    certificate = other.certificate(foreign.block_hash)
    chain.produce()
    status = chain.execution.status()
    with pytest.raises(ConflictingCommit) as caught:
        chain.execution.commit(Commit(foreign.block_hash, certificate))
    assert (caught.value.height, caught.value.committed, caught.value.asked) == (
        1,
        status.head_hash,
        foreign.block_hash,
    )
    assert chain.reopened().execution.status() == status


def test_a_block_that_is_not_held_must_be_validated_first() -> None:
    chain, other = LocalChain(), LocalChain()
    built = chain.build()
    request = Commit(built.block_hash, chain.certificate(built.block_hash))
    assert other.execution.commit(request) == NeedBlock(built.block_hash)
    assert other.execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)
    assert isinstance(other.execution.commit(request), Committed)


def test_a_certificate_without_a_quorum_commits_nothing() -> None:
    chain = LocalChain(validators=4)
    built = chain.build()
    for signers in ([0], [0, 1]):
        with pytest.raises(InvalidCertificate, match="quorum"):
            chain.execution.commit(Commit(built.block_hash, chain.certificate(built.block_hash, signers=signers)))
    chain.execution.commit(Commit(built.block_hash, chain.certificate(built.block_hash, signers=[0, 1, 3])))
    assert chain.execution.status().head_height == 1


def test_a_certificate_for_another_network_commits_nothing() -> None:
    chain = LocalChain()
    built = chain.build()
    certificate = commit_certificate(chain.secrets, bytes(32), 1, built.block_hash)
    with pytest.raises(InvalidCertificate, match="signature"):
        chain.execution.commit(Commit(built.block_hash, certificate))


def test_bytes_that_are_no_certificate_commit_nothing() -> None:
    chain = LocalChain()
    built = chain.build()
    with pytest.raises(InvalidCertificate):
        chain.execution.commit(Commit(built.block_hash, b"\x02"))


def test_held_blocks_are_bounded_and_an_evicted_one_is_asked_for() -> None:
    chain = LocalChain()
    blocks = [chain.build([candidate(0, 0, value=value)]) for value in range(MAX_PREPARED_BLOCKS + 1)]
    first, last = blocks[0], blocks[-1]
    request = Commit(first.block_hash, chain.certificate(first.block_hash))
    assert chain.execution.commit(request) == NeedBlock(first.block_hash)
    assert isinstance(chain.execution.commit(Commit(last.block_hash, chain.certificate(last.block_hash))), Committed)


def test_validating_a_held_block_keeps_it_from_eviction() -> None:
    chain = LocalChain()
    first = chain.build([candidate(0, 0, value=100)])
    for value in range(MAX_PREPARED_BLOCKS + 3):
        chain.build([candidate(0, 0, value=value)])
        assert chain.execution.validate(Validate(first.raw_block)) == Valid(first.block_hash)
    assert chain.commit(first.block_hash).block.block_hash == first.block_hash


def test_validating_the_head_again_says_that_it_is_valid() -> None:
    chain = LocalChain()
    built = chain.build([candidate(0, 0)])
    chain.commit(built.block_hash)
    assert chain.execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)


def test_a_head_with_another_body_is_not_the_head() -> None:
    chain = LocalChain()
    built = chain.build([candidate(0, 0)])
    chain.commit(built.block_hash)
    swapped = built.raw_block.replace(candidate(0, 0).raw_transaction, candidate(1, 0).raw_transaction)
    assert isinstance(chain.execution.validate(Validate(swapped)), Invalid)


def test_building_on_anything_but_the_head_is_refused() -> None:
    chain = LocalChain()
    request = chain.build_request()
    chain.produce()
    assert isinstance(chain.execution.build(request), CannotBuild)
    answer = chain.execution.build(Build(b"\x01" * 32, request.attributes, (), 100))
    assert isinstance(answer, CannotBuild)
    assert "is not the head" in answer.reason


def test_time_moves_by_at_least_the_minimum_interval() -> None:
    chain = LocalChain()
    times = []
    for time_ms in (0, 0, 1_700_000_009_999, 0):
        chain.produce(time_ms=time_ms)
        times.append(chain.execution.status().head_time_ms)
    start = 1_700_000_000_000
    assert times == [start + 200, start + 400, start + 9_999, start + 10_199]


def test_fee_parameters_move_one_notch_toward_the_preference_and_hold_still_without_one() -> None:
    chain = LocalChain()
    start = chain.execution.context.parent
    fees = decode_fee_parameters(start.extra_data)
    chain.produce(fee_preference=FeePreference(1, 8, 0))
    moved = decode_fee_parameters(chain.execution.context.parent.extra_data)
    assert moved.gas_target == fees.gas_target - gas_target_notch(fees.gas_target)
    assert moved.base_fee_step_index == fees.base_fee_step_index + 1
    assert moved.min_base_fee_wei < fees.min_base_fee_wei
    chain.produce()
    assert decode_fee_parameters(chain.execution.context.parent.extra_data) == moved


def test_every_round_has_its_own_proposer_and_its_block_is_valid() -> None:
    chain, other = LocalChain(validators=4), LocalChain(validators=4)
    indices = set()
    for round_ in range(4):
        built = chain.build(round_=round_)
        assert other.execution.validate(Validate(built.raw_block)) == Valid(built.block_hash)
        indices.add(chain.build_request(round_=round_).attributes.proposer_index)
    assert indices == {0, 1, 2, 3}


def test_a_chain_crosses_epochs_with_the_same_set() -> None:
    chain = LocalChain(validators=2)
    for _ in range(3):
        chain.produce()
    assert chain.execution.context.voting_set == chain.execution.context.next_set


def test_handle_answers_every_kind_of_block_work() -> None:
    chain = LocalChain()
    built = chain.execution.handle(chain.build_request())
    assert isinstance(built, Built)
    assert chain.execution.handle(Validate(built.raw_block)) == Valid(built.block_hash)
    assert isinstance(chain.execution.handle(GetStatus()), Status)
    committed = chain.execution.handle(Commit(built.block_hash, chain.certificate(built.block_hash)))
    assert isinstance(committed, Committed)
