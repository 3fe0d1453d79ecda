"""The driver of a single validator: what it makes, and that no crash makes it sign twice or lose a block."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from astralink_node.chain.client import InProcessExecution
from astralink_node.chain.messages import Candidate, Commit, Committed
from astralink_node.config import BlocksConfig
from astralink_node.crypto.ml_dsa import Seed
from astralink_node.evm.blocks import decode_header
from astralink_node.services.consensus_driver import ChainSettings, ConsensusDriver
from astralink_node.services.consensus_log import ConsensusLog, ConsensusLogDamaged
from astralink_node.services.height_run import ConsensusHalted
from astralink_node.services.offload import inline
from astralink_node.services.own_validator import OwnValidator
from astralink_node.services.proposer import Proposer
from astralink_node.storage.wal import WriteAheadLog
from astralink_node.types import Address
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import ValidatorKeys, keys_of
from astralink_node.validator.local_signer import LocalSigner
from astralink_node.validator.signing_history import create_history, history_path, open_history
from consensus.params import ConsensusParams
from p2p.memory_transport import MemoryNetwork
from p2p.transport import PeerId
from tests.support.chains import LocalChain, candidate, voting_secret

RECIPIENT = Address(bytes(19) + b"\xfe")


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


class Around:
    """Calls `step` before and after every method call of something, so that a crash can fall on either side."""

    def __init__(self, inner: Any, step: Callable[[], None], names: tuple[str, ...]) -> None:
        self._inner = inner
        self._step = step
        self._names = names

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self._names:
            return method

        def call(*arguments: Any) -> Any:
            self._step()
            result = method(*arguments)
            self._step()
            return result

        return call


class AroundExecution:
    """The same for the execution facade, whose methods wait."""

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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chain = LocalChain()
        self.keys: ValidatorKeys = keys_of(voting_secret(0), Seed(bytes([1]) * 32), None)
        storage = HistoryFile(history_path(folder / "signing", self.keys.public.voting_key))
        create_history(storage, self.keys.public.voting_key, key_is_new=True)
        storage.close()
        self.signed: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.time_ms = self.chain.execution.status().head_time_ms

    def now_ms(self) -> int:
        self.time_ms += 1_000
        return self.time_ms

    def run(self, target: int, crash: Crash | None = None) -> list[Committed]:
        """One life of the process: recover, then go on to the target height or to the crash."""
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
            if decode_header(committed.block.raw_header).number >= target:
                scope.cancel()

        execution = AroundExecution(InProcessExecution(self.chain.execution), step)
        params = ConsensusParams(min_block_interval_ms=1, message_delay_ms=60_000)
        driver = ConsensusDriver(
            execution,  # type: ignore[arg-type]
            ChainSettings(genesis_hash, params, epoch_length=100),
            OwnValidator(
                Around(signer, step, ("sign_reveal", "sign_proposal", "sign_vote")),  # type: ignore[arg-type]
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
            trio.run(main)
        except BaseExceptionGroup as group:
            cause = only_cause(group)
            if crash is None or not isinstance(cause, Crashed):
                raise cause from group
        finally:
            history.close()
            log.close()
        return published

    @property
    def height(self) -> int:
        return self.chain.execution.status().head_height


def test_blocks_follow_each_other_and_carry_the_candidates(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    published = bench.run(3)
    assert [decode_header(c.block.raw_header).number for c in published] == [1, 2, 3]
    assert [len(c.block.raw_transactions) for c in published] == [1, 1, 1]
    assert decode_header(published[0].block.raw_header).coinbase == RECIPIENT


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
