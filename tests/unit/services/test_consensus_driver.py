"""The driver of a single validator: what it makes, and that no crash makes it sign twice or lose a block."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Candidate, Commit, Committed
from astralink_node.config import BlocksConfig
from astralink_node.crypto import bls
from astralink_node.crypto.ml_dsa import Seed
from astralink_node.evm.blocks import decode_header
from astralink_node.services.consensus_driver import REPEAT_INTERVAL_MS, ChainSettings, ConsensusDriver
from astralink_node.services.consensus_log import ConsensusLog, ConsensusLogDamaged
from astralink_node.services.gossip_judge import PeerCertificate, PeerProposal, PeerVotes
from astralink_node.services.height_run import ConsensusHalted
from astralink_node.services.offload import inline
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.proposer import Proposer
from astralink_node.storage.wal import WriteAheadLog
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import ValidatorKeys, keys_of
from astralink_node.validator.local_signer import LocalSigner, SignerUnavailable
from astralink_node.validator.signing_history import create_history, history_path, open_history
from consensus.certificate import Certificate
from consensus.messages import NIL, VoteType, signing_root
from consensus.params import ConsensusParams
from consensus.payload import decode_payload
from consensus.votes import SignedProposal, SignedVote
from p2p.memory_transport import MemoryNetwork
from p2p.peer_id import PeerId
from tests.support.chains import LocalChain, candidate, voting_secret
from tests.support.kill_points import Around

RECIPIENT = Address(bytes(19) + b"\xfe")


SIGNING = ("sign_reveal", "sign_proposal", "sign_vote")
PEER = PeerId(b"peer")


class Crashed(BaseException):
    """The process has ended."""


class Crash:
    """Counts the steps of one run and ends it at step number `at`."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.steps = 0

    def __call__(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Crashed


class AroundExecution:
    """As `Around`, for all methods of the execution facade, which wait."""

    def __init__(self, inner: InProcessExecution, step: Callable[[], None]) -> None:
        self._inner = inner
        self._step = step

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*arguments: Any) -> Any:
            self._step()
            result = await method(*arguments)
            self._step()
            return result

        return call


class Source:
    """A mempool that never runs dry: one transfer after the other."""

    def __init__(self, chain: LocalChain) -> None:
        self._chain = chain
        self.dropped: list[bytes] = []

    def candidates(self, *, long_run: bool) -> tuple[Candidate, ...]:
        # Every block holds one transfer, so the height is the nonce; a second one differs by its time of day.
        return (candidate(0, self._chain.execution.status().head_height),)

    def drop(self, transaction_hash: bytes, reason: str) -> None:
        assert reason
        self.dropped.append(transaction_hash)

    def known_senders(self, raw_transactions: Sequence[bytes]) -> tuple[bytes, ...]:
        return (b"",) * len(raw_transactions)

    async def wait_for_payable(self) -> None:
        await trio.lowlevel.checkpoint()


class Released:
    """Every signature that left the signer, by what it was for."""

    def __init__(self, signer: LocalSigner, seen: dict[tuple[Any, ...], tuple[Any, ...]]) -> None:
        self._signer = signer
        self._seen = seen
        self.public = signer.public
        self.history_state = signer.history_state
        self.is_foreign = signer.is_foreign
        self.set_floor = signer.set_floor

    def sign_reveal(self, height: int) -> bytes:
        return self._signer.sign_reveal(height)

    def sign_proposal(self, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        signature = self._signer.sign_proposal(height, round_, block_hash, valid_round)
        self._note(("proposal", height, round_), (block_hash, valid_round))
        return signature

    def sign_vote(self, vote_type: Any, height: int, round_: int, block_hash: bytes, valid_round: int) -> bytes:
        signature = self._signer.sign_vote(vote_type, height, round_, block_hash, valid_round)
        self._note((vote_type, height, round_), (block_hash, valid_round))
        return signature

    def _note(self, step: tuple[Any, ...], value: tuple[Any, ...]) -> None:
        assert self._seen.setdefault(step, value) == value, f"two signatures for {step}"


def only_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the driver's tasks; there is one reason."""
    (cause,) = group.exceptions
    return only_cause(cause) if isinstance(cause, BaseExceptionGroup) else cause


class Bench:
    """One validator's disk, and the runs of its driver on it."""

    def __init__(self, folder: Path, *, key_is_new: bool = True) -> None:
        self.folder = folder
        self.chain = LocalChain()
        self.driver: ConsensusDriver
        """Of the last run."""
        self.before_signing: Callable[[], None] = lambda: None
        """Called by every method of the signer that signs; may raise."""
        self.before_telling_own_from_foreign: Callable[[], None] = lambda: None
        self.keys: ValidatorKeys = keys_of(voting_secret(0), Seed(bytes([1]) * 32), None)
        storage = HistoryFile(history_path(folder / "signing", self.keys.public.voting_key))
        create_history(storage, self.keys.public.voting_key, key_is_new=key_is_new)
        storage.close()
        self.signed: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.time_ms = self.chain.execution.status().head_time_ms

    def now_ms(self) -> int:
        self.time_ms += 1_000
        return self.time_ms

    def run(self, target: int, crash: Crash | None = None, *, told: Any = None) -> list[Committed]:
        """One life of the process: recover, then go on to the target height or to the crash. With `told` the driver
        is given that event at the height after the first block that it commits."""
        step = crash or Crash(None)
        self.chain = self.chain.reopened()
        published: list[Committed] = []
        history = open_history(self.folder / "signing", self.keys.public.voting_key)
        log = ConsensusLog(self.folder / "consensus")
        genesis_hash = self.chain.execution.status().genesis_hash
        signer = Released(LocalSigner(self.keys, history, genesis_hash), self.signed)

        scope = trio.CancelScope()

        def on_committed(committed: Committed) -> None:
            step()
            published.append(committed)
            if told is not None and len(published) == 1:
                driver._inbox.send_nowait(told)
            if decode_header(committed.block.raw_header).number >= target:
                scope.cancel()

        execution = AroundExecution(InProcessExecution(self.chain.execution), step)
        params = ConsensusParams(min_block_interval_ms=1, message_delay_ms=60_000)
        driver = self.driver = ConsensusDriver(
            execution,  # type: ignore[arg-type]
            ChainSettings(genesis_hash, params, epoch_length=100),
            OwnValidator(
                Around(  # type: ignore[arg-type]
                    Around(
                        Around(signer, self.before_signing, SIGNING),
                        self.before_telling_own_from_foreign,
                        ("is_foreign",),
                    ),
                    step,
                    SIGNING,
                ),
                RECIPIENT,
                inline,
            ),
            Proposer(execution, Source(self.chain), params, BlocksConfig(interval_ms=0), self.now_ms, inline),  # type: ignore[arg-type]
            Around(log, step, ("begin", "record", "record_block", "sync", "cut")),  # type: ignore[arg-type]
            MemoryNetwork().join(PeerId(b"alone")),
            self.now_ms,
            on_committed,
            inline,
        )

        async def main() -> None:
            with scope:
                await driver.run()

        try:
            trio.run(main, clock=MockClock(autojump_threshold=0))
        except BaseExceptionGroup as group:
            cause = only_cause(group)
            if crash is None or not isinstance(cause, Crashed):
                raise cause from group
        finally:
            history.close()
            log.close()
        return published

    def sign_as_if_log_and_commit_were_lost(self, sign: Callable[[LocalSigner], object]) -> None:
        """What the signer remembers and nobody else does."""
        genesis_hash = self.chain.execution.status().genesis_hash
        with open_history(self.folder / "signing", self.keys.public.voting_key) as history:
            sign(LocalSigner(self.keys, history, genesis_hash))

    @property
    def height(self) -> int:
        return self.chain.execution.status().head_height


def test_blocks_follow_each_other_and_carry_the_candidates(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    published = bench.run(3)
    assert [decode_header(c.block.raw_header).number for c in published] == [1, 2, 3]
    assert [len(c.block.raw_transactions) for c in published] == [1, 1, 1]
    assert decode_header(published[0].block.raw_header).coinbase == RECIPIENT


def test_blocks_and_how_long_they_took_are_counted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    published = bench.run(3)
    metrics = bench.driver._metrics
    assert list(metrics.block_interval_seconds.samples())[-1].endswith("_count 2"), "genesis is no block of its time"
    assert list(metrics.proposal_to_commit_seconds.samples())[-1].endswith("_count 3")
    newest_ms = decode_payload(published[-1].block.raw_payload).time_ms
    assert metrics.head_timestamp_seconds.value == newest_ms / 1000


def test_a_crash_at_any_step_loses_no_block_and_signs_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "count").mkdir()
    counted = Crash(None)
    Bench(tmp_path / "count").run(2, counted)
    assert counted.steps > 30
    for at in range(1, counted.steps + 1):
        folder = tmp_path / str(at)
        folder.mkdir()
        bench = Bench(folder)
        bench.run(2, Crash(at))
        reached = bench.chain.reopened().execution.status().head_height
        bench.run(reached + 2)
        assert bench.height >= reached + 2, f"stuck after a crash at step {at}"


def test_two_crashes_in_a_row_are_survived(tmp_path: Path) -> None:
    for first in range(3, 24, 4):
        for second in range(2, 14, 3):
            folder = tmp_path / f"{first}-{second}"
            folder.mkdir()
            bench = Bench(folder)
            bench.run(2, Crash(first))
            bench.run(2, Crash(second))
            bench.run(3)
            assert bench.height >= 3


def test_a_database_older_than_the_log_is_refused_and_nothing_is_signed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(2)
    log = ConsensusLog(tmp_path / "consensus")
    log.cut()
    log.begin(9)
    log.sync()
    log.close()
    before = dict(bench.signed)
    with pytest.raises(ConsensusHalted, match="log is of height 9, but the database stands at height 2"):
        bench.run(3)
    assert bench.signed == before


def test_a_log_of_another_version_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    wal = WriteAheadLog(tmp_path / "consensus" / "wal")
    wal.append(b"\x7fsomething else entirely")
    wal.sync()
    wal.close()
    with pytest.raises(ConsensusLogDamaged, match="another version"):
        bench.run(1)


def test_a_key_that_signed_another_block_at_this_height_stops_the_driver(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    status = bench.chain.execution.status()
    with open_history(tmp_path / "signing", bench.keys.public.voting_key) as history:
        LocalSigner(bench.keys, history, status.genesis_hash).sign_proposal(2, 0, b"\x99" * 32, -1)
    with pytest.raises(ConsensusHalted, match="the signer refuse"):
        bench.run(1)
    assert bench.height == 0


def test_committing_again_after_a_restart_gives_the_identical_block(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    head = bench.run(1)[-1].block
    certificate = bench.chain.execution.status().head_certificate
    again = bench.chain.reopened().execution.commit(Commit(head.block_hash, certificate))
    assert isinstance(again, Committed)
    assert again.block == head


# --- A lone validator that lost its log ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sign",
    [
        lambda signer: signer.sign_reveal(1),
        lambda signer: signer.sign_proposal(1, 0, b"\x99" * 32, -1),
        lambda signer: signer.sign_vote(VoteType.PREVOTE, 1, 0, b"\x99" * 32, -1),
        lambda signer: signer.sign_vote(VoteType.PRECOMMIT, 1, 0, NIL, -1),
        lambda signer: signer.sign_vote(VoteType.PREVOTE, 1, 2, NIL, -1),
    ],
    ids=["reveal", "proposal", "prevote", "nil precommit", "prevote of a later round"],
)
def test_a_lost_log_of_a_step_before_the_lock_costs_rounds_and_no_more(
    tmp_path: Path, sign: Callable[[LocalSigner], object]
) -> None:
    bench = Bench(tmp_path)
    bench.sign_as_if_log_and_commit_were_lost(sign)
    bench.run(3)
    assert bench.height >= 3


def test_the_next_round_is_the_one_that_is_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.sign_as_if_log_and_commit_were_lost(lambda signer: signer.sign_proposal(1, 0, b"\x99" * 32, -1))
    published = bench.run(2)
    rounds = [decode_payload(committed.block.raw_payload).build_round for committed in published]
    assert rounds == [1, 0]
    assert ("proposal", 1, 0) not in bench.signed


def test_a_lost_log_of_a_precommit_halts_with_advice_and_nothing_is_voted_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(2)
    bench.sign_as_if_log_and_commit_were_lost(
        lambda signer: signer.sign_vote(VoteType.PRECOMMIT, bench.height + 1, 0, b"\x99" * 32, -1)
    )
    ConsensusLog(tmp_path / "consensus").cut()
    height, before = bench.height, set(bench.signed)
    with pytest.raises(ConsensusHalted, match="signed what neither the database nor the consensus log"):
        bench.run(height + 1)
    assert bench.height == height
    assert {kind for kind, *_ in set(bench.signed) - before} <= {"proposal"}, "a proposal alone makes nothing final"


# --- A signer that is out of reach -----------------------------------------------------------------------------


@pytest.mark.parametrize("good_calls", range(6))
def test_a_signer_that_was_out_of_reach_is_asked_again_and_the_chain_goes_on(tmp_path: Path, good_calls: int) -> None:
    bench = Bench(tmp_path)
    calls = 0

    def answer_some() -> None:
        nonlocal calls
        calls += 1
        if good_calls * 2 < calls <= good_calls * 2 + 10:  # before and after each call
            raise SignerUnavailable("no answer")

    bench.before_signing = answer_some
    bench.run(3)
    assert bench.height >= 3
    assert calls > good_calls * 2 + 10


def test_a_wall_clock_that_is_set_back_meanwhile_keeps_nobody_from_asking_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    asked_at_s: list[float] = []

    def answer_late() -> None:
        asked_at_s.append(trio.current_time())
        if len(asked_at_s) == 3:
            bench.time_ms -= 3_600_000
        if len(asked_at_s) < 6:
            raise SignerUnavailable("no answer")

    bench.before_signing = answer_late
    bench.run(1)
    longest_s = max(later - earlier for earlier, later in pairwise(asked_at_s[:6]))
    assert longest_s <= 3 + REPEAT_INTERVAL_MS / 1000, "the propose timeout, and how often one repeats oneself"


def test_a_signer_out_of_reach_when_somebody_echoes_our_vote_ends_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(1)
    asked = 0

    def fail() -> None:
        nonlocal asked
        asked += 1
        raise SignerUnavailable("no answer")

    bench.before_telling_own_from_foreign = fail
    bench.run(4, told=PeerVotes((signed_vote(bench, VoteType.PREVOTE, 3, NIL, round_=5),)))
    assert asked == 1
    assert bench.height == 4


# --- What peers may do -----------------------------------------------------------------------------------------


def signed_vote(
    bench: Bench, vote_type: VoteType, height: int, block_hash: bytes = b"\x77" * 32, round_: int = 0
) -> SignedVote:
    """By this validator's key, on another machine."""
    genesis_hash = bench.chain.execution.status().genesis_hash
    unsigned = SignedVote(vote_type, height, round_, block_hash, -1, 0, b"")
    return replace(
        unsigned, signature=bls.sign(bench.keys.voting_secret, signing_root(unsigned.sign_bytes(genesis_hash)))
    )


def certificate_of_all(bench: Bench, vote_type: VoteType, height: int) -> Certificate:
    vote = signed_vote(bench, vote_type, height)
    return Certificate(vote_type, height, 0, -1, vote.block_hash, b"\x01", vote.signature)


@pytest.mark.parametrize("vote_type", list(VoteType))
def test_a_vote_of_our_key_that_we_did_not_cast_halts(tmp_path: Path, vote_type: VoteType) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(ConsensusHalted, match="another node signs with this validator's key"):
        bench.run(3, told=PeerVotes((signed_vote(bench, vote_type, 2),)))
    assert bench.height == 1


def test_a_proposal_of_our_key_that_we_did_not_make_halts(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    proposal = SignedProposal(2, 0, b"\x77" * 32, -1, bytes(96))
    with pytest.raises(ConsensusHalted, match="another node signs with this validator's key"):
        bench.run(3, told=PeerProposal(PEER, proposal, bench.now_ms()))
    assert bench.height == 1


def test_a_second_certified_block_at_a_final_height_halts_and_is_kept_for_people(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(1)
    with pytest.raises(ConsensusHalted, match="the chain has forked: at height 2"):
        bench.run(3, told=PeerCertificate(PEER, certificate_of_all(bench, VoteType.PRECOMMIT, 2)))
    assert (tmp_path / "consensus" / "fork-2.json").exists()
    signed = dict(bench.signed)
    with pytest.raises(ConsensusHalted, match=r"fork-2\.json"):
        bench.run(3)  # also whoever restarts it signs nothing
    assert bench.signed == signed
    (tmp_path / "consensus" / "fork-2.json").unlink()
    bench.run(3)
    assert bench.height == 3


def test_a_polka_for_another_block_that_comes_after_the_decision_is_no_fork(tmp_path: Path) -> None:
    """A block may have a polka in one round, and another one be decided in a later."""
    bench = Bench(tmp_path)
    bench.run(4, told=PeerCertificate(PEER, certificate_of_all(bench, VoteType.PREVOTE, 1)))
    assert bench.height == 4
    assert not list((tmp_path / "consensus").glob("fork-*"))


# --- A new signing history -------------------------------------------------------------------------------------


def test_a_lone_validator_with_a_new_history_signs_from_the_next_height(tmp_path: Path) -> None:
    bench = Bench(tmp_path, key_is_new=False)
    bench.run(2)
    assert min(height for _, height, _ in bench.signed) == 1
    history_path(tmp_path / "signing", bench.keys.public.voting_key).unlink()
    storage = HistoryFile(history_path(tmp_path / "signing", bench.keys.public.voting_key))
    create_history(storage, bench.keys.public.voting_key, key_is_new=False)
    storage.close()
    bench.run(4)
    assert bench.height == 4
    with open_history(tmp_path / "signing", bench.keys.public.voting_key) as history:
        assert history.chain(bench.chain.execution.status().genesis_hash).floor == 3
