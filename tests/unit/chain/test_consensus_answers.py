"""What consensus gets from the chain beside blocks: sets and priorities, decided blocks, and what conflicts."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from astralink_node.chain.client import ExecutionClient, ExecutionLink, InProcessExecution
from astralink_node.chain.codec import decode, encode
from astralink_node.chain.consensus_messages import Decided, GetDecided, ValidatorsAnswer, ValidatorsQuestion
from astralink_node.chain.errors import ConflictingCommit, InvalidCertificate
from astralink_node.chain.frames import FrameDecoder, encode_frame
from astralink_node.chain.messages import (
    AtHash,
    AtHeight,
    AtLatest,
    AtPending,
    BlockSelector,
    BlockWork,
    Commit,
    Committed,
    NotFound,
    Query,
    Valid,
    Validate,
)
from consensus.proposer_selection import decode_priorities, encode_priorities
from consensus.validator_set import decode_validator_set, encode_validator_set
from tests.support.chains import LocalChain, candidate


def chain_of_height(height: int, validators: int = 4) -> LocalChain:
    chain = LocalChain(validators=validators)
    for _ in range(height):
        chain.produce()
    return chain


# --- The next height's sets and priorities ---------------------------------------------------------------------


def test_a_commit_and_the_status_bring_what_the_next_height_starts_from() -> None:
    chain = chain_of_height(0)
    for _ in range(3):
        committed = chain.produce()
        context, status = chain.execution.context, chain.execution.status()
        assert decode_validator_set(committed.voting_set) == context.voting_set
        assert decode_validator_set(committed.next_set) == context.next_set
        assert decode_priorities(committed.priorities) == context.priorities
        assert committed.checkpoint_epoch == context.latest_checkpoint_epoch == -1
        for name in ("voting_set", "next_set", "priorities", "checkpoint_epoch"):
            assert getattr(status, name) == getattr(committed, name)


def test_the_status_at_genesis_brings_the_genesis_set() -> None:
    status = chain_of_height(0).execution.status()
    assert len(decode_validator_set(status.voting_set)) == 4
    assert status.voting_set == status.next_set
    assert decode_priorities(status.priorities) == (0, 0, 0, 0)


def test_a_commit_after_a_restart_brings_the_same_and_a_commit_below_the_head_none_of_it() -> None:
    chain = chain_of_height(1)
    first_certificate = chain.execution.status().head_certificate
    first_hash = chain.execution.context.parent.hash
    built = chain.build()
    certificate = chain.certificate(built.block_hash)
    committed = chain.commit(built.block_hash)
    again = chain.reopened().execution
    assert again.commit(Commit(built.block_hash, certificate)) == committed
    below = again.commit(Commit(first_hash, first_certificate))
    assert isinstance(below, Committed)
    assert (below.voting_set, below.next_set, below.priorities, below.checkpoint_epoch) == (b"", b"", b"", -1)


def test_the_encoding_of_an_unchanged_set_is_made_once() -> None:
    chain = chain_of_height(1)
    first, second = chain.produce(), chain.produce()
    assert first.voting_set is second.voting_set is second.next_set


# --- Who votes where -------------------------------------------------------------------------------------------


def test_validators_are_told_for_every_block_and_for_the_next_one() -> None:
    chain = chain_of_height(2)
    context = chain.execution.context
    expected = encode_validator_set(context.voting_set)
    selections: list[tuple[BlockSelector, int]] = [
        (AtHeight(0), 0),
        (AtHeight(1), 1),
        (AtLatest(), 2),
        (AtHash(context.parent.hash), 2),
        (AtPending(), 3),
    ]
    for at, height in selections:
        answer = chain.execution.query(Query(at, ValidatorsQuestion()))
        assert answer == ValidatorsAnswer(height, expected, context.next_set.hash, 100)
    for missing in (AtHeight(3), AtHash(bytes(32))):
        assert isinstance(chain.execution.query(Query(missing, ValidatorsQuestion())), NotFound)


# --- Decided blocks --------------------------------------------------------------------------------------------


def test_a_lagging_chain_catches_up_from_decided_blocks_alone() -> None:
    chain, lagging = LocalChain(validators=4), LocalChain(validators=4)
    for nonce in range(3):
        chain.produce([candidate(0, nonce)])
    for height in range(1, 4):
        decided = chain.execution.handle(GetDecided(height))
        assert isinstance(decided, Decided)
        follow(lagging, decided)
    assert lagging.execution.status() == chain.execution.status()


def follow(chain: LocalChain, decided: Decided) -> None:
    answer = chain.execution.validate(Validate(decided.raw_block))
    assert isinstance(answer, Valid), answer
    assert isinstance(chain.execution.commit(Commit(answer.block_hash, decided.certificate)), Committed)


@pytest.mark.parametrize("height", [-1, 0, 3, 2**63])
def test_a_height_that_is_not_decided_is_not_found(height: int) -> None:
    assert isinstance(chain_of_height(2).execution.decided(height), NotFound)


def test_decided_blocks_come_over_the_socket_and_in_process_alike() -> None:
    execution = chain_of_height(2).execution
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        frames = FrameDecoder()
        while data := await theirs.receive_some(1 << 20):
            for frame in frames.feed(bytes(data)):
                answer = execution.handle(decode(BlockWork, frame.payload))
                await theirs.send_all(encode_frame(frame.request_id, encode(answer)))

    async def main() -> None:
        client = ExecutionClient(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            nursery.start_soon(client.run)
            links: list[ExecutionLink] = [client, InProcessExecution(execution)]
            for link in links:
                assert await link.decided(2) == execution.decided(2)
                assert isinstance(await link.decided(3), NotFound)
            nursery.cancel_scope.cancel()

    trio.run(main)


# --- Certificates ----------------------------------------------------------------------------------------------


def test_a_second_certificate_for_a_committed_block_changes_nothing() -> None:
    chain = chain_of_height(1)
    built = chain.build()
    first, second = (chain.certificate(built.block_hash, signers=signers) for signers in ([0, 1, 2], [1, 2, 3]))
    committed = chain.execution.commit(Commit(built.block_hash, first))
    assert chain.execution.commit(Commit(built.block_hash, second)) == committed
    assert chain.execution.status().head_certificate == first
    assert chain.execution.decided(2) == Decided(built.raw_block, first)


@pytest.mark.parametrize("further", [0, 1, 3])
def test_another_certified_block_at_a_committed_height_is_fatal_however_far_below_the_head(further: int) -> None:
    chain, other = chain_of_height(1), chain_of_height(1)
    foreign = other.build([candidate(5, 0)])
    certificate = other.certificate(foreign.block_hash)
    for _ in range(1 + further):
        chain.produce()
    status = chain.execution.status()
    with pytest.raises(ConflictingCommit) as caught:
        chain.execution.commit(Commit(foreign.block_hash, certificate))
    assert caught.value.height == 2
    assert caught.value.asked == foreign.block_hash
    assert caught.value.committed == chain.execution.context.block_hash_at(2)
    assert chain.execution.status() == status


def test_a_block_that_is_held_and_certified_for_a_lower_height_is_fatal_as_well() -> None:
    chain = chain_of_height(1)
    built = chain.build([candidate(5, 0)])
    certificate = chain_of_height(0).certificate(built.block_hash)
    with pytest.raises(ConflictingCommit):
        chain.execution.commit(Commit(built.block_hash, certificate))
    assert chain.execution.status().head_height == 1


def test_a_conflict_that_a_quorum_did_not_certify_is_only_a_wrong_certificate() -> None:
    chain, other = chain_of_height(1), chain_of_height(1)
    foreign = other.build([candidate(5, 0)])
    certificate = other.certificate(foreign.block_hash, signers=[0, 1])
    chain.produce()
    with pytest.raises(InvalidCertificate, match="at height 2: certificate quorum"):
        chain.execution.commit(Commit(foreign.block_hash, certificate))


def test_priorities_advance_once_a_height_whatever_round_decides() -> None:
    chain = chain_of_height(0)
    rounds = chain.produce(round_=3)
    assert rounds.priorities == chain_of_height(0).produce().priorities
    assert rounds.priorities == encode_priorities(chain.execution.context.priorities)
