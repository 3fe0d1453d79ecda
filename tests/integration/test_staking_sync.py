"""Catching up over elections: by blocks, by a snapshot, and as a light client; whoever joined meanwhile is met."""

from functools import cache
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from astralink_node.chain.check import check_database
from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.messages import Status
from astralink_node.evm.blocks import encode_header
from astralink_node.light_client import LightBlock, LightBlockRefused, LightClient, trust_by_hash
from astralink_node.services.block_sync import BlockSync
from astralink_node.services.offload import inline
from astralink_node.services.snapshot_sync import SnapshotSync
from astralink_node.services.snapshot_trust import JoiningRules
from consensus.params import ConsensusParams
from consensus.payload import encode_payload
from consensus.validator_set import encode_validator_set
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import GENESIS_TIMESTAMP
from tests.support.lying_peers import Helpers, Reports
from tests.support.memory_nodes import MemoryNode
from tests.support.snapshots import new_store, opened
from tests.support.staking_chains import BWT, EPOCH_LENGTH, StakingChain, operator_of, staking_genesis

GENESIS = staking_genesis()
PARAMS = ConsensusParams()
SOON_MS = 1000 * GENESIS_TIMESTAMP + 3_600_000
ELECTED_AT = EPOCH_LENGTH
"""The first height of the first set that is not genesis'."""


@cache
def changing_chain() -> StakingChain:
    """A newcomer with most of the power votes from epoch 1 on; in epoch 2 one of the old ones leaves."""
    chain = StakingChain(genesis=GENESIS)
    chain.step([chain.registration(5, 0, 5, 400 * BWT)])
    chain.advance_to(EPOCH_LENGTH + 3)
    chain.step(evidence=[chain.raw_double_precommit(2, EPOCH_LENGTH + 1)])
    chain.advance_to(4 * EPOCH_LENGTH + 2)
    assert operator_of(2) not in chain.voters
    assert len(chain.voters) == 4
    return chain


def test_a_node_far_behind_catches_up_over_elections(tmp_path: Path) -> None:
    chain = changing_chain()
    helpers = Helpers(chain)
    for name in ("one", "two"):
        helpers.join(name)
    node = MemoryNode(0, tmp_path, MemoryNetwork(), GENESIS, PARAMS, epoch_length=EPOCH_LENGTH)
    reports = Reports()
    requester = helpers.network.join(node.peer_id)

    async def live() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.live)
            while node.driver is None or node.driver.run_of_height is None:
                await wait_all_tasks_blocked()
            sync = BlockSync(
                requester,
                InProcessExecution(node.chain.execution),
                node.driver.commit_decided,
                helpers.heads,
                JoiningRules(PARAMS, EPOCH_LENGTH),
                reports,
                node.now_ms,
                inline,
                node.driver.look_into,
            )
            nursery.start_soon(sync.run)
            with trio.fail_after(120):
                await node.reach(chain.head_height)
            nursery.cancel_scope.cancel()

    trio.run(live, clock=MockClock(autojump_threshold=0))
    assert reports.noted == []
    assert node.chain.execution.status().head_hash == chain.execution.status().head_hash
    assert node.chain.execution.context.voting_set == chain.execution.context.voting_set


def test_a_new_node_joins_by_a_snapshot_over_sets_that_it_never_heard_of() -> None:
    """Nobody keeps proofs of possession, so the light client goes over the headers that announced the sets."""
    chain = changing_chain()
    helpers = Helpers(chain)
    for name in ("one", "two"):
        helpers.join(name)
    store = new_store(GENESIS)
    execution = opened(store)
    reports = Reports()
    sync = SnapshotSync(
        helpers.network.join(PeerId(b"newcomer")),
        InProcessExecution(execution),
        helpers.heads,
        JoiningRules(PARAMS, EPOCH_LENGTH, None),
        reports,
        lambda: SOON_MS,
        inline,
    )

    async def bounded() -> Status:
        with trio.fail_after(120):
            return await sync.run()

    status = trio.run(bounded, clock=MockClock(autojump_threshold=0))
    assert reports.noted == []
    assert status.head_height == 4 * EPOCH_LENGTH - 1
    assert check_database(store, lambda *_: None).problems == []
    assert execution.context.voting_set == chain.execution.context.voting_set_at(4 * EPOCH_LENGTH)
    assert execution.context.priorities == Ledger(chain.store).priorities(4 * EPOCH_LENGTH)
    # It knows the sets that evidence may still accuse.
    for height in (EPOCH_LENGTH, 2 * EPOCH_LENGTH):
        assert execution.context.voting_set_at(height) == chain.execution.context.voting_set_at(height)


# --- Light clients --------------------------------------------------------------------------------------------------


def light_block(chain: StakingChain, height: int) -> LightBlock:
    ledger = Ledger(chain.store)
    context = chain.execution.context
    voting, following = context.voting_set_at(height), context.voting_set_at(height + 1)
    return LightBlock(
        encode_header(ledger.header(height)),
        encode_payload(ledger.payload(height)),
        ledger.certificate(height),
        encode_validator_set(voting),
        b"" if following == voting else encode_validator_set(following),
    )


def client_at(chain: StakingChain, height: int) -> LightClient:
    context = chain.execution.context
    trusted = trust_by_hash(light_block(chain, height), context.block_hash_at(height), context.genesis_hash)
    return LightClient(context.genesis_hash, trusted, PARAMS, lambda: SOON_MS)


def test_a_light_client_follows_the_changes_of_the_set_height_by_height() -> None:
    chain = changing_chain()
    client = client_at(chain, 1)
    for height in range(2, chain.head_height + 1):
        believed = client.update(light_block(chain, height)).header
        assert believed.block_hash == chain.execution.context.block_hash_at(height)
    assert client.trusted.next_set == chain.execution.context.voting_set


def test_a_light_client_skips_to_the_header_that_announces_a_set_and_from_there_into_it() -> None:
    chain = changing_chain()
    client = client_at(chain, 1)
    with pytest.raises(LightBlockRefused) as caught:
        client.update(light_block(chain, ELECTED_AT + 3))
    assert caught.value.rule in ("possession", "trust_level")
    client.update(light_block(chain, ELECTED_AT - 1))
    client.update(light_block(chain, ELECTED_AT))
    # Who left needs no proof: everybody who signs is known.
    assert client.update(light_block(chain, 4 * EPOCH_LENGTH)).header.height == 4 * EPOCH_LENGTH
