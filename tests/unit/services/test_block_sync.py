"""Catching up by ranges: quick, in order, past peers of every bad kind, and handed back to consensus."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from astralink_node.chain.client import InProcessExecution
from astralink_node.evm.blocks import decode_block, encode_block, encode_header
from astralink_node.services.block_ranges import DecidedBlock, Standing, judge_range
from astralink_node.services.block_sync import MAX_RANGES, RANGE_BLOCKS, SYNC_FROM, BlockSync
from astralink_node.services.offload import inline
from astralink_node.services.snapshot_trust import JoiningRules, TrustedBlock, TrustNeeded
from astralink_node.services.sync_offences import SAYS, SyncOffence
from astralink_node.services.sync_protocols import BLOCKS
from astralink_node.types import Hash32
from consensus.certificate import decode_certificate, signer_indices
from consensus.forged_header import ForgedHeader
from consensus.light_verification import trusting_period_ms
from consensus.params import ConsensusParams
from consensus.payload import decode_payload, encode_payload
from consensus.sync_wire import (
    BlocksReply,
    WireBlock,
    decode_blocks_reply,
    decode_blocks_request,
    encode_blocks_reply,
)
from genesis.dev_accounts import DEVNET_ACCOUNTS
from p2p.memory_transport import MemoryNetwork
from tests.support.chains import GENESIS_TIMESTAMP, LocalChain, candidate, commit_certificate, genesis_text
from tests.support.kill_points import KillPoint
from tests.support.lying_peers import Change, Helpers, Reports
from tests.support.memory_nodes import MemoryNode

VALIDATORS = 4
GENESIS = genesis_text(VALIDATORS, epoch_length=50)
LENGTH = 300


@pytest.fixture(scope="module")
def long_chain() -> LocalChain:
    chain = LocalChain(genesis=GENESIS, validators=VALIDATORS)
    for nonce in range(LENGTH):
        chain.produce([candidate(0, nonce)])
    return chain


class Laggard:
    """A whole validator at genesis, which others have left behind."""

    def __init__(self, folder: Path, helpers: Helpers) -> None:
        self.node = MemoryNode(0, folder, MemoryNetwork(), GENESIS, ConsensusParams(), epoch_length=50)
        self.helpers = helpers
        self.reports = Reports()
        self.requester = helpers.network.join(self.node.peer_id)
        self.sync: BlockSync | None = None
        self.rules = JoiningRules(ConsensusParams(), 50)

    async def live(self, until: Callable[[], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.node.live)
            while self.node.driver is None or self.node.driver.run_of_height is None:
                await wait_all_tasks_blocked()
            self.sync = BlockSync(
                self.requester,
                InProcessExecution(self.node.chain.execution),
                self.node.driver.commit_decided,
                self.helpers.heads,
                self.rules,
                self.reports,
                self.node.now_ms,
                inline,
                self.node.driver.look_into,
            )
            nursery.start_soon(self.sync.run)
            await until()
            nursery.cancel_scope.cancel()
        self.node.driver = None

    def run(self, height: int, seconds: float = 60) -> None:
        async def reached() -> None:
            with trio.fail_after(seconds):
                await self.node.reach(height)

        trio.run(partial(self.live, reached), clock=MockClock(autojump_threshold=0))


def altered(change: Callable[[BlocksReply], BlocksReply]) -> Change:
    return lambda _, honest: encode_blocks_reply(change(decode_blocks_reply(honest)))


def altered_block(change: Callable[[WireBlock], WireBlock], at: int = 3) -> Change:
    def change_reply(reply: BlocksReply) -> BlocksReply:
        if len(reply.blocks) <= at:
            return reply
        blocks = [*reply.blocks[:at], change(reply.blocks[at]), *reply.blocks[at + 1 :]]
        return replace(reply, blocks=tuple(blocks))

    return altered(change_reply)


def without_transactions(block: WireBlock) -> WireBlock:
    sealed = decode_block(block.raw_block)
    assert sealed.block.raw_transactions
    return replace(block, raw_block=encode_block(replace(sealed, block=replace(sealed.block, raw_transactions=()))))


def with_another_payload(block: WireBlock) -> WireBlock:
    sealed = decode_block(block.raw_block)
    changed = encode_payload(replace(decode_payload(sealed.raw_payload), time_ms=1))
    return replace(block, raw_block=encode_block(replace(sealed, raw_payload=changed)))


def with_other_state(block: WireBlock) -> WireBlock:
    """Another block, under the certificate of the right one."""
    sealed = decode_block(block.raw_block)
    header = replace(sealed.block.header, state_root=sealed.block.header.parent_hash)
    return replace(block, raw_block=encode_block(replace(sealed, block=replace(sealed.block, header=header))))


def signed_by_one(block: WireBlock) -> WireBlock:
    chain = LocalChain(genesis=GENESIS, validators=VALIDATORS)
    header = decode_block(block.raw_block).block.header
    genesis_hash = chain.execution.context.genesis_hash
    return replace(
        block, certificate=commit_certificate(chain.secrets, genesis_hash, header.number, header.hash, signers=[1])
    )


def with_forged_signature(block: WireBlock) -> WireBlock:
    chain = LocalChain(genesis=GENESIS, validators=VALIDATORS)
    height = decode_block(block.raw_block).block.header.number
    other = commit_certificate(chain.secrets, chain.execution.context.genesis_hash, height, b"\x01" * 32)
    return replace(block, certificate=block.certificate[:-96] + other[-96:])


LIES: dict[str, tuple[Change, SyncOffence]] = {
    "truncated": (lambda _, honest: honest[:-1], SyncOffence.MALFORMED),
    "no block": (altered_block(lambda block: replace(block, raw_block=b"\xc0")), SyncOffence.MALFORMED),
    "body of no transactions": (altered_block(without_transactions), SyncOffence.WRONG_BLOCK),
    "another payload": (altered_block(with_another_payload), SyncOffence.WRONG_BLOCK),
    "another block": (altered_block(with_other_state), SyncOffence.WRONG_CERTIFICATE),
    "signed by one of four": (altered_block(signed_by_one), SyncOffence.WRONG_CERTIFICATE),
    "forged signature": (altered_block(with_forged_signature), SyncOffence.WRONG_CERTIFICATE),
    "left one out": (
        altered(lambda reply: replace(reply, blocks=reply.blocks[:2] + reply.blocks[3:])),
        SyncOffence.OTHER_HEIGHTS,
    ),
    "in falling order": (altered(lambda reply: replace(reply, blocks=reply.blocks[::-1])), SyncOffence.OTHER_HEIGHTS),
    "more than asked for": (
        altered(lambda reply: replace(reply, blocks=(*reply.blocks, reply.blocks[-1]))),
        SyncOffence.OTHER_HEIGHTS,
    ),
    "nothing": (altered(lambda reply: replace(reply, blocks=())), SyncOffence.NOT_THERE),
}


def test_a_node_far_behind_catches_up_from_several_peers_at_once(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    peers = [helpers.join(name, delay_s=0.05) for name in ("one", "two", "three")]
    laggard = Laggard(tmp_path, helpers)
    laggard.run(LENGTH)
    assert laggard.node.chain.execution.status() == long_chain.execution.status()
    assert set(helpers.served) == set(peers)
    assert sorted(laggard.node.blocks) == list(range(1, LENGTH + 1))
    assert laggard.reports.noted == []


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_peer_is_found_out_and_not_asked_again(lie: str, long_chain: LocalChain, tmp_path: Path) -> None:
    change, offence = LIES[lie]
    helpers = Helpers(long_chain)
    liar = helpers.join("liar", protocol=BLOCKS, change=change)
    helpers.join("honest", delay_s=0.01)
    laggard = Laggard(tmp_path, helpers)
    laggard.run(70)
    expected = [long_chain.execution.context.block_hash_at(height) for height in range(1, 71)]
    assert [laggard.node.blocks[height].block_hash for height in range(1, 71)] == expected
    assert {peer for peer, _, _ in laggard.reports.noted} == {liar}
    assert laggard.reports.of(liar) == {offence}
    assert offence in SAYS
    assert laggard.requester.asked.count((liar, BLOCKS.name)) <= MAX_RANGES
    assert liar not in helpers.heads.at_least(0)


def test_a_slow_peer_holds_nobody_up(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    slow = helpers.join("slow", delay_s=60)
    helpers.join("quick", delay_s=0.1)
    laggard = Laggard(tmp_path, helpers)
    laggard.run(LENGTH, seconds=9)
    laggard_offences = laggard.reports.of(slow)
    assert laggard_offences <= {SyncOffence.TOO_SLOW}


def test_a_peer_that_says_to_be_further_than_anybody_is_believed_once(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    boaster = helpers.join("boaster", head=10**9)
    helpers.join("honest")
    laggard = Laggard(tmp_path, helpers)
    laggard.run(LENGTH)

    async def idle() -> None:
        await trio.sleep(30)

    trio.run(partial(laggard.live, idle), clock=MockClock(autojump_threshold=0))
    assert helpers.heads.best() == LENGTH
    assert laggard.reports.of(boaster) <= {SyncOffence.NOT_THERE}


def test_a_head_older_than_the_trusting_period_is_no_beginning(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    helpers.join("honest")
    laggard = Laggard(tmp_path, helpers)
    laggard.node.now_ms = lambda: 1000 * GENESIS_TIMESTAMP + trusting_period_ms(ConsensusParams())
    with pytest.RaisesGroup(TrustNeeded, flatten_subgroups=True):
        laggard.run(LENGTH)
    assert laggard.node.height == 0


def test_a_node_with_an_old_chain_stays_up_and_takes_nothing(
    long_chain: LocalChain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    helpers = Helpers(long_chain)
    helpers.join("honest")
    laggard = Laggard(tmp_path, helpers)
    laggard.run(32)
    reached = laggard.node.height
    laggard.node.now_ms = lambda: 1000 * GENESIS_TIMESTAMP + trusting_period_ms(ConsensusParams()) + 3_600_000

    async def idle() -> None:
        await trio.sleep(100)

    trio.run(partial(laggard.live, idle), clock=MockClock(autojump_threshold=0))
    assert laggard.node.height == reached
    assert [record.levelname for record in caplog.records].count("ERROR") == 2


def test_a_trusted_block_makes_an_old_head_good_enough_and_is_held_to(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    helpers.join("honest")
    laggard = Laggard(tmp_path, helpers)
    laggard.node.now_ms = lambda: 1000 * GENESIS_TIMESTAMP + trusting_period_ms(ConsensusParams())
    block_hash = long_chain.execution.context.block_hash_at(40)
    laggard.rules = replace(laggard.rules, trusted=TrustedBlock(40, block_hash))
    laggard.run(60)
    wrong = Laggard(tmp_path / "other", helpers)
    wrong.rules = replace(laggard.rules, trusted=TrustedBlock(40, bytes(31) + b"\x01"))
    helpers.join("honest")
    with pytest.RaisesGroup(trio.TooSlowError, flatten_subgroups=True):
        wrong.run(60, seconds=2)
    assert wrong.node.height == 39


def test_small_gaps_are_left_to_consensus(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    helpers.join("near", head=SYNC_FROM - 1)
    laggard = Laggard(tmp_path, helpers)

    async def idle() -> None:
        await trio.sleep(30)

    trio.run(partial(laggard.live, idle), clock=MockClock(autojump_threshold=0))
    assert laggard.requester.asked == []


def test_a_restarted_node_goes_on_where_it_was(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    helpers.join("honest", delay_s=0.05)
    laggard = Laggard(tmp_path, helpers)
    laggard.run(100)
    reached = laggard.node.height
    assert 100 <= reached < LENGTH
    asked_before: list[int] = []
    helpers.members[b"honest"].answerers[BLOCKS.name] = _noting(  # type: ignore[index]
        helpers.members[b"honest"].answerers[BLOCKS.name],
        asked_before,  # type: ignore[index]
    )
    laggard.run(LENGTH)
    assert min(asked_before) == reached + 1
    assert laggard.node.chain.execution.status() == long_chain.execution.status()


def _noting(answerer: Callable[..., Awaitable[bytes]], asked: list[int]) -> Callable[..., Awaitable[bytes]]:
    async def answer(peer: object, data: bytes) -> bytes:
        asked.append(decode_blocks_request(data).from_height)
        return await answerer(peer, data)

    return answer


def test_no_more_is_under_way_than_the_bounds_allow(long_chain: LocalChain, tmp_path: Path) -> None:
    helpers = Helpers(long_chain)
    asked: list[int] = []
    for name in ("one", "two", "three", "four", "five"):
        peer = helpers.join(name, delay_s=5)
        helpers.members[peer].answerers[BLOCKS.name] = _noting(helpers.members[peer].answerers[BLOCKS.name], asked)
    laggard = Laggard(tmp_path, helpers)

    async def a_moment() -> None:
        await trio.sleep(1)

    trio.run(partial(laggard.live, a_moment), clock=MockClock(autojump_threshold=0))
    assert sorted(asked) == [1 + RANGE_BLOCKS * number for number in range(MAX_RANGES)]


def test_after_catching_up_the_validator_votes_with_the_others(long_chain: LocalChain, tmp_path: Path) -> None:
    """Three validators hold the chain at its end; the fourth comes from genesis and the chain goes on with it alone
    making the quorum: one of the three is silent."""
    network = MemoryNetwork()
    entries = dict(long_chain.store.iterate(b"", b"\xff" * 9))
    nodes = []
    for number in (1, 2):
        node = MemoryNode(number, tmp_path / str(number), network, GENESIS, ConsensusParams(), epoch_length=50)
        node.store.write(entries, sync=True)
        node._use(node.store)
        nodes.append(node)
    helpers = Helpers(long_chain)
    helpers.join("archive")
    laggard = Laggard(tmp_path / "0", helpers)
    laggard.node.network = network

    async def all_follow() -> None:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.live)
            with trio.fail_after(120):
                for node in (*nodes, laggard.node):
                    await node.reach(LENGTH + 3)
            nursery.cancel_scope.cancel()

    trio.run(partial(laggard.live, all_follow), clock=MockClock(autojump_threshold=0))
    hashes = {node.blocks[LENGTH + 2].block_hash for node in (*nodes, laggard.node)}
    assert len(hashes) == 1


# --- The driver's side alone -------------------------------------------------------------------------------------


def decided_blocks(chain: LocalChain, first: int, last: int) -> list[DecidedBlock]:
    found = []
    for height in range(first, last + 1):
        wire = wire_blocks(chain, height, height)[0]
        block_hash = chain.execution.context.block_hash_at(height)
        found.append(DecidedBlock(height, block_hash, wire.raw_block, wire.certificate))
    return found


def test_the_driver_passes_over_what_is_final_and_what_does_not_follow(long_chain: LocalChain, tmp_path: Path) -> None:
    laggard = Laggard(tmp_path, Helpers(long_chain))

    async def hand_over() -> None:
        driver = laggard.node.driver
        assert driver is not None
        for first, last, reached in ((1, 3, 3), (1, 3, 3), (2, 5, 5), (7, 9, 5), (6, 6, 6)):
            await driver.commit_decided(decided_blocks(long_chain, first, last))
            assert laggard.node.height == reached
            assert driver.run_of_height is not None
            assert driver.run_of_height.state.height == reached + 1
        await driver.commit_decided([])

    trio.run(partial(laggard.live, hand_over), clock=MockClock(autojump_threshold=0))
    assert sorted(laggard.node.blocks) == [1, 2, 3, 4, 5, 6]


def test_who_is_away_is_known_by_the_certificates_of_blocks_that_others_decided(
    long_chain: LocalChain, tmp_path: Path
) -> None:
    laggard = Laggard(tmp_path, Helpers(long_chain))
    blocks = decided_blocks(long_chain, 1, 6)
    signers = [signer_indices(decode_certificate(block.certificate).signers) for block in blocks]

    async def hand_over() -> None:
        driver = laggard.node.driver
        assert driver is not None
        await driver.commit_decided(blocks)
        assert driver.run_of_height is not None
        seen = driver.last_votes.attendance(driver.run_of_height.state, votes_are_overdue=False)
        for index, member in enumerate(seen):
            heights = [height for height, voters in enumerate(signers, 1) if index in voters]
            assert member.last_height == max(heights, default=None)
            assert member.is_away == (max(heights, default=0) < 5)

    trio.run(partial(laggard.live, hand_over), clock=MockClock(autojump_threshold=0))
    assert any(signers)


async def take_over_and_die(node: MemoryNode, blocks: list[DecidedBlock]) -> None:
    """One life: it is handed the blocks, and ends at its kill point or after them."""
    over = trio.Event()

    async def live() -> None:
        await node.live()
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        while not over.is_set():
            await wait_all_tasks_blocked()
            if node.driver is not None and node.driver.run_of_height is not None:
                with trio.move_on_after(1):
                    await node.driver.commit_decided(blocks)
                if not over.is_set():
                    node.kill()
                    await over.wait()


def test_killed_at_any_step_of_taking_over_it_recovers(long_chain: LocalChain, tmp_path: Path) -> None:
    blocks = decided_blocks(long_chain, 1, 4)
    kills = 0
    while True:
        laggard = Laggard(tmp_path / str(kills), Helpers(long_chain))
        point = laggard.node.kill_point = KillPoint(kills + 1)
        trio.run(take_over_and_die, laggard.node, blocks, clock=MockClock(autojump_threshold=0))
        laggard.node.driver = None
        laggard.helpers.join("honest")
        laggard.run(12)
        assert laggard.node.blocks[12].block_hash == long_chain.execution.context.block_hash_at(12)
        if not point.is_passed:
            break
        kills += 1
    assert kills >= 2 * len(blocks), "before and after each commit at least"


# --- Judging alone -----------------------------------------------------------------------------------------------


def standing_at_genesis(chain: LocalChain) -> Standing:
    fresh = LocalChain(genesis=chain.genesis, validators=VALIDATORS).execution
    context = fresh.context
    return Standing(0, context.parent.hash, context.voting_set, context.next_set, context.genesis_hash)


def wire_blocks(chain: LocalChain, first: int, last: int) -> list[WireBlock]:
    found = []
    for height in range(first, last + 1):
        decided = chain.execution.decided(height)
        found.append(WireBlock(decided.certificate, decided.raw_block))  # type: ignore[union-attr]
    return found


def test_what_holds_before_the_fault_is_kept(long_chain: LocalChain) -> None:
    blocks = wire_blocks(long_chain, 1, 10)
    blocks[6] = with_forged_signature(blocks[6])
    judgement = judge_range(standing_at_genesis(long_chain), blocks)
    assert [block.height for block in judgement.blocks] == [1, 2, 3, 4, 5, 6]
    assert judgement.offence is SyncOffence.WRONG_CERTIFICATE
    assert "block 7" in judgement.detail


def test_a_block_on_another_parent_is_suspected_of_being_forged(long_chain: LocalChain) -> None:
    blocks = wire_blocks(long_chain, 1, 5)
    sealed = decode_block(blocks[3].raw_block)
    header = replace(sealed.block.header, parent_hash=Hash32(b"f" * 32))
    forged = encode_block(replace(sealed, block=replace(sealed.block, header=header)))
    judgement = judge_range(standing_at_genesis(long_chain), [*blocks[:3], replace(blocks[3], raw_block=forged)])
    assert [block.height for block in judgement.blocks] == [1, 2, 3]
    assert judgement.offence is SyncOffence.WRONG_BLOCK
    assert judgement.suspect == ForgedHeader(encode_header(header), decode_certificate(blocks[3].certificate))
    blocks[4] = with_forged_signature(blocks[4])
    assert judge_range(standing_at_genesis(long_chain), blocks).suspect is None


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_forged_block_that_a_peer_gives_in_a_range_is_kept_as_evidence(
    long_chain: LocalChain, tmp_path: Path, *, is_signed: bool
) -> None:
    def forge(block: WireBlock) -> WireBlock:
        sealed = decode_block(block.raw_block)
        header = replace(sealed.block.header, parent_hash=Hash32(b"f" * 32))
        raw_block = encode_block(replace(sealed, block=replace(sealed.block, header=header)))
        if not is_signed:
            return replace(block, raw_block=raw_block)
        genesis_hash = long_chain.execution.context.genesis_hash
        certificate = commit_certificate(long_chain.secrets, genesis_hash, header.number, header.hash)
        return WireBlock(certificate, raw_block)

    helpers = Helpers(long_chain)
    liar = helpers.join("liar", protocol=BLOCKS, change=altered_block(forge))
    laggard = Laggard(tmp_path, helpers)

    async def convicted() -> None:
        await trio.sleep(10)
        assert laggard.reports.of(liar) == {SyncOffence.WRONG_BLOCK}
        assert laggard.node.driver is not None
        held = laggard.node.driver.evidence.held
        assert [type(one) for one in held] == ([ForgedHeader] if is_signed else [])
        assert [one.height for one in held] == ([laggard.node.height + 1] if is_signed else [])

    trio.run(partial(laggard.live, convicted), clock=MockClock(autojump_threshold=0))


def test_senders_are_recovered_on_the_way(long_chain: LocalChain) -> None:
    judgement = judge_range(standing_at_genesis(long_chain), wire_blocks(long_chain, 1, 3))
    assert [block.senders for block in judgement.blocks] == [(DEVNET_ACCOUNTS[0].address,)] * 3


def test_a_range_that_begins_elsewhere_is_refused(long_chain: LocalChain) -> None:
    judgement = judge_range(standing_at_genesis(long_chain), wire_blocks(long_chain, 2, 4))
    assert (judgement.blocks, judgement.offence) == ((), SyncOffence.OTHER_HEIGHTS)


def test_certificates_of_two_blocks_swapped_do_not_hold(long_chain: LocalChain) -> None:
    first, second, third = wire_blocks(long_chain, 1, 3)
    swapped = [first, replace(second, certificate=third.certificate), replace(third, certificate=second.certificate)]
    judgement = judge_range(standing_at_genesis(long_chain), swapped)
    assert [block.height for block in judgement.blocks] == [1]
    assert judgement.offence is SyncOffence.WRONG_CERTIFICATE


def test_a_set_that_was_not_announced_is_refused(long_chain: LocalChain) -> None:
    other = LocalChain(validators=1).execution.context.voting_set
    standing = replace(standing_at_genesis(long_chain), voting_set=other)
    judgement = judge_range(standing, wire_blocks(long_chain, 1, 2))
    assert (judgement.blocks, judgement.offence) == ((), SyncOffence.WRONG_BLOCK)


def test_no_blocks_are_no_offence(long_chain: LocalChain) -> None:
    assert judge_range(standing_at_genesis(long_chain), []).offence is None
