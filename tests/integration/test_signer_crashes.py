"""Nothing that leaves a signer convicts its key: crashes at every write, sync and release, kills, restores, races.

The judge of each test is tests.support.signing_ledger: it sees what left, and knows no rule of the signer's.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from astralink_node.config import SignerConfig, TlsAddress, UnixAddress
from astralink_node.crypto.keystore_envelope import Pbkdf2
from astralink_node.validator import signing_history
from astralink_node.validator.history_file import HistoryFile
from astralink_node.validator.keys import create_validator
from astralink_node.validator.local_signer import LocalSigner, RefusedToSign, Signer, SignerUnavailable
from astralink_node.validator.remote_signer import open_remote_signer
from astralink_node.validator.signing_history import (
    HistoryUnwritable,
    SigningHistory,
    create_history,
    history_path,
    open_history,
)
from consensus.messages import (
    NIL,
    CheckpointMessage,
    ProposalMessage,
    RevealMessage,
    SignedMessage,
    VoteMessage,
    VoteType,
)
from tests.support.node_process import NodeProcess
from tests.support.signer_servers import GENESIS, KEYS, pair, serving
from tests.support.signing_ledger import Ledger, rivals

SEED = 20_261_126
RUNS = 1_000
KILLS = 20
HASHES = [b"a" * 32, b"b" * 32, b"c" * 32]
QUICK = Pbkdf2(c=10)
WAIT_S = 60


# --- 1,000 seeded runs in this process -----------------------------------------------------------------------------


class Crash(Exception):
    """The process, or the whole machine, ends here."""


class FaultyDisk:
    """A file behind a page cache. Seeded: where it crashes, how much of a write got through, and what a sync loses.

    What is in the cache outlives the process and not a power failure, of which any first part of the unsynced bytes
    may be on disk. After a failed sync the cache still shows the bytes, but no later sync makes them durable.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.durable: bytes | None = None
        self.shown: bytes | None = None
        self.has_hole = False
        self.is_faulty = False

    def load(self) -> bytes | None:
        return self.shown

    def append(self, data: bytes) -> None:
        self._perhaps_crash()
        if self._happens(0.04):
            self.shown = (self.shown or b"") + data[: self.chance.randrange(len(data))]
            raise Crash
        self.shown = (self.shown or b"") + data
        self._perhaps_crash()

    def sync(self) -> None:
        self._perhaps_crash()
        if self._happens(0.02):
            self.has_hole = True
            raise OSError(5, "Input/output error")
        if not self.has_hole:
            self.durable = self.shown
        self._perhaps_crash()

    def replace(self, data: bytes) -> None:
        self._perhaps_crash()
        self.durable = self.shown = data
        self.has_hole = False
        self._perhaps_crash()

    def close(self) -> None:
        pass

    def power_failure(self) -> None:
        assert self.durable is not None
        assert self.shown is not None
        unsynced = self.shown[len(self.durable) :]
        self.shown = self.durable + unsynced[: self.chance.randint(0, len(unsynced))]

    def _perhaps_crash(self) -> None:
        if self._happens(0.04):
            raise Crash

    def _happens(self, probability: float) -> bool:
        return self.is_faulty and self.chance.random() < probability


class Driver:
    """A node that has the key: it walks through heights and rounds with opinions of its own, and forgets at will."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.height, self.round_ = 1, 0

    def next_messages(self) -> list[SignedMessage]:
        chance, height, round_ = self.chance, self.height, self.round_
        block = chance.choice(HASHES)
        rests_on = chance.randint(-1, round_ - 1)
        vote = chance.choice([block, block, NIL])
        lock = chance.choice([block, block, NIL])
        messages: list[SignedMessage] = [
            RevealMessage(GENESIS, height),
            ProposalMessage(GENESIS, height, round_, block, rests_on),
            VoteMessage(GENESIS, height, round_, VoteType.PREVOTE, vote, -1 if vote == NIL else rests_on),
            VoteMessage(GENESIS, height, round_, VoteType.PRECOMMIT, lock, -1),
        ]
        if chance.random() < 0.1:
            messages.append(CheckpointMessage(GENESIS, height // 3, height, block, bytes(32)))
        if chance.random() < 0.2:
            chance.shuffle(messages)
        self._move()
        return messages

    def _move(self) -> None:
        moved = self.chance.random()
        if moved < 0.55:
            self.round_ += 1
        elif moved < 0.75:
            self.height, self.round_ = self.height + 1, 0
        elif moved < 0.85:
            self.height, self.round_ = self.chance.randint(1, self.height), 0  # an older folder was put back
        else:
            self.round_ = self.chance.randint(0, self.round_)


class Run:
    """Two drivers that share one signer, which crashes. Everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.disk = FaultyDisk(self.chance)
        create_history(self.disk, KEYS.public.voting_key, key_is_new=True)
        self.ledger = Ledger()
        self.history = SigningHistory(self.disk, KEYS.public.voting_key)
        self.made = 0
        self.crashes = 0

    def play(self) -> None:
        drivers = [Driver(self.chance), Driver(self.chance)]
        self.disk.is_faulty = True
        for _ in range(self.chance.randint(8, 24)):
            for message in self.chance.choice(drivers).next_messages():
                self.ask(message)
                self.ask(message)
                for rival in list(rivals(message, HASHES))[self.chance.randrange(12) :][:1]:
                    self.ask(rival)

    def ask(self, message: SignedMessage) -> None:
        try:
            signature = self.history.sign(message, self.make_signature)
            if self.chance.random() < 0.02:
                raise Crash  # after the record, before the signature is released
        except HistoryUnwritable:
            if self.chance.random() < 0.5:
                self.restart()  # else somebody goes on asking
        except Crash:
            self.restart()
        except RefusedToSign:
            pass
        else:
            self.ledger.add(message, signature)

    def restart(self) -> None:
        self.crashes += 1
        while True:
            if self.chance.random() < 0.5:
                self.disk.power_failure()
            try:
                self.history = SigningHistory(self.disk, KEYS.public.voting_key)
                return
            except Crash:
                continue

    def make_signature(self, sign_bytes: bytes) -> bytes:
        """Never twice the same: only the history makes repeated signatures equal."""
        self.made += 1
        return self.made.to_bytes(96, "big")


def test_a_thousand_seeded_runs_with_crashes_release_nothing_that_convicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_history, "_COMPACT_AFTER_BYTES", 600)
    released = crashes = 0
    for seed in range(SEED, SEED + RUNS):
        run = Run(seed)
        try:
            run.play()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        released += len(run.ledger.released)
        crashes += run.crashes
    assert released > 10 * RUNS, "the runs must sign, or they show nothing"
    assert crashes > 5 * RUNS


def test_a_seed_is_the_whole_run() -> None:
    one, other = Run(SEED), Run(SEED)
    one.play()
    other.play()
    assert one.ledger.released == other.ledger.released
    assert one.disk.shown == other.disk.shown


# --- A real process, killed ----------------------------------------------------------------------------------------


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "signer"
    create_validator(folder / "validator", folder / "signing", KEYS, "pw", key_is_new=True, kdf=QUICK)
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text("pw\n")
    return folder


def start_signer(folder: Path) -> NodeProcess:
    return NodeProcess(
        folder / "log", "signer", "--data-dir", str(folder), "--password-file", str(folder / "password"), "--json"
    )


def ask(signer: Signer, message: SignedMessage) -> bytes:
    match message:
        case ProposalMessage(_, height, round_, block_hash, valid_round):
            return signer.sign_proposal(height, round_, block_hash, valid_round)
        case VoteMessage(_, height, round_, vote_type, block_hash, valid_round):
            return signer.sign_vote(vote_type, height, round_, block_hash, valid_round)
        case RevealMessage(_, height):
            return signer.sign_reveal(height)
        case CheckpointMessage(_, epoch, height, block_hash, next_set_hash):
            return signer.sign_checkpoint(epoch, height, block_hash, next_set_hash)


class SharedLedger:
    """A ledger for several threads that tells when enough was released."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.refused = 0
        self._changed = threading.Condition()
        self._is_failed = False

    def __len__(self) -> int:
        return len(self.ledger.released)

    def ask(self, signer: Signer, message: SignedMessage) -> None:
        """Raises SignerUnavailable."""
        try:
            signature = ask(signer, message)
        except RefusedToSign:
            with self._changed:
                self.refused += 1
            return
        with self._changed:
            self.ledger.add(message, signature)
            self._changed.notify_all()

    def await_more(self, count: int) -> None:
        with self._changed:
            wanted = len(self) + count
            assert self._changed.wait_for(lambda: self._is_failed or len(self) >= wanted, WAIT_S), "no more was signed"

    def fail(self) -> None:
        with self._changed:
            self._is_failed = True
            self._changed.notify_all()


class Lifecycle:
    """Tells the clients when the signer is up again, and when there will be no more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.starts = 0
        self.is_over = False

    def started(self) -> None:
        with self._changed:
            self.starts += 1
            self._changed.notify_all()

    def over(self) -> None:
        with self._changed:
            self.is_over = True
            self._changed.notify_all()

    def await_start_after(self, seen: int) -> int:
        with self._changed:
            assert self._changed.wait_for(lambda: self.starts > seen or self.is_over, WAIT_S)
            return self.starts


def walk(chance: random.Random) -> Iterator[SignedMessage]:
    """Both clients walk the same heights and rounds, each with opinions of its own."""
    height = 0
    while True:
        height += 1
        for round_ in range(3):
            block = chance.choice(HASHES)
            rests_on = chance.randint(-1, round_ - 1)
            yield RevealMessage(GENESIS, height)
            yield ProposalMessage(GENESIS, height, round_, block, rests_on)
            yield VoteMessage(GENESIS, height, round_, VoteType.PREVOTE, block, rests_on)
            yield VoteMessage(GENESIS, height, round_, VoteType.PRECOMMIT, chance.choice([block, NIL]), -1)
        if chance.random() < 0.2:
            height = max(0, height - 2)


def client(config: SignerConfig, folder: Path, ledger: SharedLedger, life: Lifecycle, seed: int) -> None:
    """Asks until there is no more signer; after each loss it asks for the same first, then for a rival of it."""
    seen = life.await_start_after(0)
    try:
        with closing(open_remote_signer(config, folder, GENESIS)) as signer:
            for message in walk(random.Random(seed)):
                for asked in (message, *list(rivals(message, HASHES))[:2]):
                    while not life.is_over:
                        try:
                            ledger.ask(signer, asked)
                            break
                        except SignerUnavailable:
                            seen = life.await_start_after(seen)
                if life.is_over:
                    return
    except BaseException:
        ledger.fail()
        raise


def test_twenty_kills_of_a_real_signer_release_nothing_that_convicts(data_folder: Path) -> None:
    config = SignerConfig(address=f"unix:{data_folder / 'signer' / 'signer.sock'}", timeout_ms=20_000)
    ledger, life = SharedLedger(), Lifecycle()
    chance = random.Random(SEED)
    with ThreadPoolExecutor(2) as threads:
        clients = [threads.submit(client, config, data_folder, ledger, life, SEED + number) for number in range(2)]
        try:
            for _ in range(KILLS):
                with start_signer(data_folder).await_ready() as process:
                    life.started()
                    ledger.await_more(chance.randint(1, 30))
                    os.kill(process.process.pid, signal.SIGKILL)
                    assert process.await_exit() == -signal.SIGKILL
        finally:
            life.over()
        for finished in clients:
            finished.result(WAIT_S)
    assert len(ledger) >= KILLS
    assert ledger.refused > 0
    with open_history(data_folder / "signing", KEYS.public.voting_key) as history:
        signer = LocalSigner(KEYS, history, GENESIS)
        for message in walk_back(ledger.ledger):
            try:
                ledger.ask(signer, message)
            except HistoryUnwritable:
                pytest.fail("the history can be written")


def walk_back(ledger: Ledger) -> Iterator[SignedMessage]:
    """All that ever left, and rivals of it, once more after the last kill."""
    for message in list(ledger.released):
        yield message
        yield from rivals(message, HASHES)


# --- Restores and races --------------------------------------------------------------------------------------------


def test_a_node_whose_chain_data_was_put_back_gets_the_same_signatures_or_none(tmp_path: Path) -> None:
    """The history is kept: it is in a folder of its own. The node is at height 3 again and asks for all once more."""
    address = UnixAddress(str(tmp_path / "s" / "signer.sock"))
    ledger = SharedLedger()
    storage = HistoryFile(history_path(tmp_path / "signing", KEYS.public.voting_key))
    create_history(storage, KEYS.public.voting_key, key_is_new=True)
    script = [
        message
        for height in range(1, 7)
        for message in (
            RevealMessage(GENESIS, height),
            ProposalMessage(GENESIS, height, 0, HASHES[0], -1),
            VoteMessage(GENESIS, height, 0, VoteType.PREVOTE, HASHES[0], -1),
            VoteMessage(GENESIS, height, 0, VoteType.PRECOMMIT, HASHES[0], -1),
        )
    ]
    with serving(tmp_path, address, storage=storage) as served, closing(served.client()) as signer:
        before = {message: ask(signer, message) for message in script}
    with serving(tmp_path, address, storage=storage) as served, closing(served.client()) as signer:
        for message in script:
            if message.height == 6:
                assert ask(signer, message) == before[message]
            elif message.height >= 3:
                with pytest.raises(RefusedToSign, match="below height 6"):
                    ask(signer, message)
        for message, signature in before.items():
            ledger.ledger.add(message, signature)
            for rival in rivals(message, HASHES):
                ledger.ask(signer, rival)
    storage.close()
    assert ledger.refused > 0


@pytest.mark.parametrize("kind", ["unix", "tls"])
def test_two_nodes_that_race_for_one_signer_get_nothing_that_convicts(tmp_path: Path, kind: str) -> None:
    pair(tmp_path)
    address = UnixAddress(str(tmp_path / "s" / "signer.sock")) if kind == "unix" else TlsAddress("127.0.0.1", 0)
    ledger, life = SharedLedger(), Lifecycle()
    with serving(tmp_path, address) as served, ThreadPoolExecutor(2) as threads:
        racers = [threads.submit(client, served.config(), tmp_path, ledger, life, SEED + number) for number in range(2)]
        life.started()
        try:
            ledger.await_more(200)
        finally:
            life.over()
        for finished in racers:
            finished.result(WAIT_S)
    assert ledger.refused > 0
