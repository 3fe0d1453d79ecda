"""The log under the signer: nothing leaves before it is durable, and only a crash's own traces are forgiven."""

import multiprocessing
from dataclasses import dataclass, field

import pytest

from astralink_node.validator import signing_history as module
from astralink_node.validator.history_file import HistoryFile, HistoryLocked
from astralink_node.validator.signing_history import (
    HistoryDamaged,
    HistoryExists,
    HistoryMissing,
    HistoryUnwritable,
    RefusedToSign,
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
    VoteMessage,
    VoteType,
    encode_message,
)

KEY = bytes(range(48))
GENESIS = b"g" * 32
A, B = b"a" * 32, b"b" * 32


def prevote(height, round_=0, block_hash=A, valid_round=-1, genesis=GENESIS):
    return VoteMessage(genesis, height, round_, VoteType.PREVOTE, block_hash, valid_round)


def precommit(height, round_=0, block_hash=A):
    return VoteMessage(GENESIS, height, round_, VoteType.PRECOMMIT, block_hash, -1)


def echo(sign_bytes: bytes) -> bytes:
    """A deterministic signature of a BLS signature's length."""
    return (sign_bytes * 2)[-96:]


class Crash(Exception):
    """The process ends here."""


@dataclass
class Disk:
    """A disk with a page cache: `append` reaches the cache, `sync` the platter.

    Crashes at operation number `crash_at`, before or after it takes effect; `survivors` of the cached bytes remain.
    """

    durable: bytes | None = None
    cached: bytes = b""
    crash_at: int = -1
    crash_after_effect: bool = False
    survivors: int = 0
    operations: list[str] = field(default_factory=list)
    fail_with: OSError | None = None

    def load(self):
        return None if self.durable is None else self.durable + self.cached

    def append(self, data):
        self._operate("append", lambda: setattr(self, "cached", self.cached + data))

    def sync(self):
        self._operate("sync", self._flush)

    def replace(self, data):
        self._operate("replace", lambda: (setattr(self, "durable", data), setattr(self, "cached", b"")))

    def close(self):
        pass

    def after_crash(self):
        """What a new process finds."""
        kept = None if self.durable is None else self.durable + self.cached[: self.survivors]
        return Disk(durable=kept)

    def _flush(self):
        self.durable = (self.durable or b"") + self.cached
        self.cached = b""

    def _operate(self, name, effect):
        if self.fail_with is not None:
            raise self.fail_with
        number = len(self.operations)
        self.operations.append(name)
        if number == self.crash_at and not self.crash_after_effect:
            raise Crash
        effect()
        if number == self.crash_at:
            raise Crash


def fresh(*, key_is_new=True):
    disk = Disk()
    create_history(disk, KEY, key_is_new=key_is_new)
    disk.operations.clear()
    return disk


def signed_disk(*messages):
    disk = fresh()
    history = SigningHistory(disk, KEY)
    for message in messages:
        history.sign(message, echo)
    return disk


def test_each_record_is_synced_before_its_signature_leaves():
    disk = fresh()
    history = SigningHistory(disk, KEY)
    synced_at_signing = []

    def sign(sign_bytes):
        synced_at_signing.append(list(disk.operations))
        return echo(sign_bytes)

    history.sign(prevote(1), sign)
    assert disk.operations == ["append", "sync"]
    assert synced_at_signing == [[]]
    assert disk.cached == b""


def test_a_reopened_history_returns_stored_signatures_and_refuses_others():
    disk = signed_disk(prevote(1), precommit(1))
    history = SigningHistory(disk, KEY)
    assert history.sign(prevote(1), pytest.fail) == echo(encode_message(prevote(1)))
    with pytest.raises(RefusedToSign, match="other bytes") as caught:
        history.sign(precommit(1, 0, B), pytest.fail)
    assert "precommit at height 1 round 0" in caught.value.reason
    with pytest.raises(RefusedToSign, match="locked in round 0"):
        history.sign(prevote(1, 1, B), pytest.fail)
    assert history.stored_signature(precommit(1)) is not None
    assert history.stored_signature(precommit(2)) is None


def test_chains_do_not_disturb_one_another():
    disk = signed_disk(prevote(50), precommit(50))
    history = SigningHistory(disk, KEY)
    history.sign(prevote(1, genesis=b"h" * 32), echo)
    with pytest.raises(RefusedToSign):
        history.sign(prevote(1), echo)


def test_an_incomplete_last_record_of_any_length_is_cut_off_and_nothing_else():
    whole = signed_disk(prevote(1), precommit(1)).durable
    first = signed_disk(prevote(1)).durable
    for length in range(len(first), len(whole)):
        disk = Disk(durable=whole[:length])
        history = SigningHistory(disk, KEY)
        assert history.truncated_bytes == length - len(first)
        assert disk.durable == first
        assert history.chain(GENESIS).step == (0, 1)
        history.sign(precommit(1, 0, NIL), echo)


def test_a_changed_bit_anywhere_in_a_complete_history_is_damage():
    whole = signed_disk(prevote(1), precommit(1)).durable
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(HistoryDamaged):
            SigningHistory(Disk(durable=bytes(damaged)), KEY)


def test_a_history_cut_inside_its_header_is_damage():
    header = fresh().durable
    for length in range(len(header)):
        with pytest.raises(HistoryDamaged):
            SigningHistory(Disk(durable=header[:length]), KEY)


def test_a_record_that_contradicts_an_earlier_one_is_damage():
    one = signed_disk(prevote(1)).durable
    other = signed_disk(prevote(1, 0, B)).durable
    spliced = one + other[len(fresh().durable) :]
    with pytest.raises(HistoryDamaged, match="contradicts"):
        SigningHistory(Disk(durable=spliced), KEY)


def test_another_keys_history_is_refused():
    with pytest.raises(HistoryDamaged, match="belongs to the voting key"):
        SigningHistory(fresh(), bytes(48))


def test_a_missing_history_names_the_flag():
    with pytest.raises(HistoryMissing, match="--new-signing-history"):
        SigningHistory(Disk(), KEY)


def test_an_existing_history_is_never_begun_anew():
    disk = signed_disk(prevote(1))
    with pytest.raises(HistoryExists):
        create_history(disk, KEY, key_is_new=True)


def test_a_history_begun_after_a_loss_waits_for_its_floor():
    disk = fresh(key_is_new=False)
    history = SigningHistory(disk, KEY)
    with pytest.raises(RefusedToSign, match="no certified head"):
        history.sign(prevote(100), echo)
    history.set_floor(GENESIS, 12)
    history.set_floor(GENESIS, 3)
    with pytest.raises(RefusedToSign, match="below height 12"):
        history.sign(prevote(11), echo)
    history.sign(prevote(12), echo)
    reopened = SigningHistory(disk, KEY)
    assert reopened.chain(GENESIS).floor == 12
    with pytest.raises(RefusedToSign, match="no certified head"):
        reopened.sign(prevote(100, genesis=b"h" * 32), echo)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "Input/output error")])
def test_after_a_failed_write_nothing_is_signed_until_it_is_opened_anew(error):
    disk = signed_disk(prevote(1))
    history = SigningHistory(disk, KEY)
    disk.fail_with = error
    with pytest.raises(HistoryUnwritable, match=error.strerror):
        history.sign(precommit(1), echo)
    disk.fail_with = None
    with pytest.raises(HistoryUnwritable, match="restart"):
        history.sign(precommit(1), echo)
    assert history.sign(prevote(1), pytest.fail)
    SigningHistory(disk, KEY).sign(precommit(1), echo)


def test_what_a_dead_process_left_in_the_cache_is_durable_before_its_signature_is_given():
    disk = fresh()
    disk.crash_at = 1
    with pytest.raises(Crash):
        SigningHistory(disk, KEY).sign(prevote(1), echo)
    assert disk.cached, "appended, not synced"
    disk.crash_at = -1
    assert SigningHistory(disk, KEY).sign(prevote(1), pytest.fail) == echo(encode_message(prevote(1)))
    after_power_failure = SigningHistory(Disk(durable=disk.durable), KEY)
    with pytest.raises(RefusedToSign, match="other bytes"):
        after_power_failure.sign(prevote(1, 0, B), echo)


def test_a_closed_history_signs_nothing():
    history = SigningHistory(fresh(), KEY)
    history.close()
    with pytest.raises(HistoryUnwritable):
        history.sign(prevote(1), echo)


def test_the_log_stays_bounded_and_keeps_what_the_rules_need(monkeypatch):
    monkeypatch.setattr(module, "_COMPACT_AFTER_BYTES", 2_000)
    disk = fresh()
    history = SigningHistory(disk, KEY)
    checkpoint = CheckpointMessage(GENESIS, 0, 3, A, B)
    history.sign(checkpoint, lambda _: bytes(3309))
    largest = 0
    for height in range(1, 201):
        history.sign(RevealMessage(GENESIS, height), echo)
        history.sign(ProposalMessage(GENESIS, height, 0, A, -1), echo)
        history.sign(prevote(height), echo)
        history.sign(precommit(height), echo)
        largest = max(largest, len(disk.durable))
    assert "replace" in disk.operations
    assert largest < 20_000
    reopened = SigningHistory(disk, KEY)
    assert reopened.chain(GENESIS) == history.chain(GENESIS)
    assert reopened.stored_signature(checkpoint) == bytes(3309)
    with pytest.raises(RefusedToSign, match="locked in round 0"):
        reopened.sign(prevote(200, 1, B), echo)


def test_a_floor_raised_above_what_was_signed_survives_the_rewriting(monkeypatch):
    monkeypatch.setattr(module, "_COMPACT_AFTER_BYTES", -10_000)
    disk = fresh(key_is_new=False)
    history = SigningHistory(disk, KEY)
    history.set_floor(GENESIS, 3)
    history.sign(prevote(5), echo)
    history.sign(CheckpointMessage(GENESIS, 2, 4, A, B), echo)
    history.set_floor(GENESIS, 102)
    history.set_floor(b"h" * 32, 7)
    assert disk.operations[-1] == "replace"
    reopened = SigningHistory(disk, KEY)
    assert reopened.chain(GENESIS) == history.chain(GENESIS)
    assert reopened.chain(GENESIS).floor == 102
    with pytest.raises(RefusedToSign, match="below height 102"):
        reopened.sign(precommit(101), echo)


SCRIPT = [
    RevealMessage(GENESIS, 1),
    prevote(1),
    precommit(1),
    prevote(1, 1, NIL),
    CheckpointMessage(GENESIS, 0, 1, A, B),
    prevote(2),
    precommit(2),
]
CONFLICTS = [
    prevote(1, 0, B),
    precommit(1, 0, B),
    prevote(1, 1, B),
    CheckpointMessage(GENESIS, 0, 1, B, B),
    prevote(2, 0, B),
    precommit(2, 0, B),
]


@pytest.mark.parametrize("compacting", [False, True], ids=["appending", "compacting"])
def test_a_crash_at_any_point_never_lets_a_conflicting_signature_out(monkeypatch, compacting):
    """Every operation, before and after its effect, with every number of surviving cached bytes that matters."""
    if compacting:
        monkeypatch.setattr(module, "_COMPACT_AFTER_BYTES", -10_000)
    clean = fresh()
    history = SigningHistory(clean, KEY)
    for message in SCRIPT:
        history.sign(message, echo)
    runs = 0
    for crash_at in range(len(clean.operations)):
        for crash_after_effect in (False, True):
            for survivors in (0, 1, 11, 12, 13, 100, 10_000):
                disk = fresh()
                disk.crash_at, disk.crash_after_effect, disk.survivors = crash_at, crash_after_effect, survivors
                released = run_until_crash(disk)
                check_after_restart(disk.after_crash(), released)
                runs += 1
    assert runs == len(clean.operations) * 2 * 7


def run_until_crash(disk):
    history = SigningHistory(disk, KEY)
    released = []
    try:
        for message in SCRIPT:
            history.sign(message, echo)
            released.append(message)
    except Crash:
        return released
    raise AssertionError("the crash did not happen")


def check_after_restart(disk, released):
    history = SigningHistory(disk, KEY)
    current = max((message.height for message in released if not isinstance(message, CheckpointMessage)), default=0)
    for message in released:
        if message.height == current or isinstance(message, CheckpointMessage):
            stored = history.stored_signature(message)
            # The next step's record may be durable although its signature never left; then this height is over.
            assert stored == echo(encode_message(message)) or history.chain(GENESIS).height > current
    for conflict in CONFLICTS:
        original = next((message for message in released if same_step(message, conflict)), None)
        if original is not None:
            with pytest.raises(RefusedToSign):
                history.sign(conflict, echo)
    # The whole script still goes through, or is refused: nothing is stuck.
    for message in SCRIPT[len(released) :]:
        history.sign(message, echo)


def same_step(left, right):
    if isinstance(left, VoteMessage) and isinstance(right, VoteMessage):
        return (left.height, left.round_, left.vote_type) == (right.height, right.round_, right.vote_type)
    return isinstance(left, CheckpointMessage) and isinstance(right, CheckpointMessage) and left.epoch == right.epoch


def test_a_history_file_is_private_and_survives_reopening(tmp_path):
    storage = HistoryFile(history_path(tmp_path / "signing", KEY))
    create_history(storage, KEY, key_is_new=True)
    storage.close()
    with open_history(tmp_path / "signing", KEY) as history:
        history.sign(prevote(1), echo)
        history.sign(precommit(1), echo)
    path = history_path(tmp_path / "signing", KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("ab") as file:
        file.write(b"\0\0\0")
    with open_history(tmp_path / "signing", KEY) as history:
        assert history.truncated_bytes == 3
        assert history.stored_signature(precommit(1)) == echo(encode_message(precommit(1)))
    with pytest.raises(HistoryMissing):
        open_history(tmp_path / "elsewhere", KEY)


def _try_to_open(folder, answers):
    try:
        open_history(folder, KEY).close()
        answers.put("opened")
    except HistoryLocked as error:
        answers.put(str(error))


def test_two_processes_cannot_share_a_history(tmp_path):
    storage = HistoryFile(history_path(tmp_path, KEY))
    create_history(storage, KEY, key_is_new=True)
    storage.close()
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    for is_held, expected in ((True, "another process"), (False, "opened")):
        held = open_history(tmp_path, KEY) if is_held else None
        child = context.Process(target=_try_to_open, args=(tmp_path, answers))
        child.start()
        assert expected in answers.get(timeout=60)
        child.join()
        if held is not None:
            held.close()


def test_a_history_that_is_held_is_refused_in_this_process_too(tmp_path):
    storage = HistoryFile(history_path(tmp_path, KEY))
    create_history(storage, KEY, key_is_new=True)
    with pytest.raises(HistoryLocked):
        open_history(tmp_path, KEY)
    storage.close()
    open_history(tmp_path, KEY).close()
