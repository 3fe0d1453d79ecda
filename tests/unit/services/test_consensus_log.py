"""The consensus log on disk: what a crash leaves of it, what is refused, and when it costs a sync."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from astralink_node.metrics import NodeMetrics
from astralink_node.services.consensus_log import (
    WAL_FILE,
    ConsensusLog,
    ConsensusLogDamaged,
    LoggedHeight,
)
from astralink_node.storage.wal import WriteAheadLog
from consensus.certificate import decode_certificate, encode_certificate
from consensus.height_machine import (
    BlockBuilt,
    BlockChecked,
    CertificateReceived,
    Input,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.round_machine import TimeoutKind
from tests.support.height_machines import PRECOMMIT, V, certificate, precommit, prevote, proposal

INPUTS: tuple[Input, ...] = (
    StartHeight(),
    ProposalReceived(proposal(0, V), 1_000),
    BlockBuilt(0, V, 999),
    BlockChecked(V, True, 0, 999),
    VoteReceived(prevote(1, 0, V)),
    CertificateReceived(certificate(PRECOMMIT, 0, V)),
    TimeoutElapsed(TimeoutKind.PREVOTE, 3),
    VoteReceived(precommit(2, 0, V)),
)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[ConsensusLog]:
    opened = ConsensusLog(tmp_path)
    yield opened
    opened.close()


def records(folder: Path) -> list[bytes]:
    wal = WriteAheadLog(folder / WAL_FILE)
    found = list(wal.read_all())
    wal.close()
    return found


def written(folder: Path, *content: bytes) -> ConsensusLog:
    """A log that holds these records, opened."""
    wal = WriteAheadLog(folder / WAL_FILE)
    for record in content:
        wal.append(record)
    wal.close()
    return ConsensusLog(folder)


def test_a_new_log_holds_nothing(log: ConsensusLog) -> None:
    assert log.load() is None
    assert log.torn_bytes == 0


def test_what_was_recorded_comes_back_in_order(log: ConsensusLog, tmp_path: Path) -> None:
    log.begin(7)
    for number, event in enumerate(INPUTS):
        log.record(event)
        log.record_block(b"block %d" % number)
    expected = LoggedHeight(7, INPUTS, tuple(b"block %d" % number for number in range(len(INPUTS))))
    assert log.load() == expected
    log.sync()
    log.close()
    again = ConsensusLog(tmp_path)
    assert again.load() == expected
    again.record(StartHeight())
    loaded = again.load()
    assert loaded is not None
    assert loaded.inputs == (*INPUTS, StartHeight())


def test_blocks_and_inputs_keep_their_place_among_each_other(log: ConsensusLog, tmp_path: Path) -> None:
    """A torn end must not leave a verdict without the block that it is about."""
    log.begin(7)
    log.record_block(b"body")
    log.record(INPUTS[3])
    log.sync()
    assert [record[0] for record in records(tmp_path)] == [2, 4, 3]


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_a_torn_end_is_cut_off_and_the_rest_stands(log: ConsensusLog, tmp_path: Path, left: int) -> None:
    log.begin(7)
    log.record(INPUTS[0])
    log.sync()
    whole = (tmp_path / WAL_FILE).read_bytes()
    log.record(INPUTS[4])
    log.close()
    content = (tmp_path / WAL_FILE).read_bytes()
    (tmp_path / WAL_FILE).write_bytes(content[: len(whole) + left])
    again = ConsensusLog(tmp_path)
    assert again.torn_bytes == left
    assert again.load() == LoggedHeight(7, INPUTS[:1], ())
    again.record(INPUTS[6])
    assert again.load() == LoggedHeight(7, (INPUTS[0], INPUTS[6]), ())


def test_a_height_whose_first_record_was_torn_is_begun_again(log: ConsensusLog, tmp_path: Path) -> None:
    log.begin(7)
    log.close()
    (tmp_path / WAL_FILE).write_bytes((tmp_path / WAL_FILE).read_bytes()[:-1])
    again = ConsensusLog(tmp_path)
    assert again.load() is None
    again.begin(7)
    assert again.load() == LoggedHeight(7, (), ())


@pytest.mark.parametrize(
    "content",
    [
        (b"\x7fother",),
        (b"\x02" + bytes(7),),
        (b"\x02" + bytes(9),),
        (b"\x03\x01",),
        (b"\x04block",),
        (b"",),
        (b"\x02" + bytes(8), b"\x05?"),
        (b"\x02" + bytes(8), b""),
        (b"\x02" + bytes(8), b"\x02" + bytes(8)),
        (b"\x02" + bytes(8), b"\x03"),
        (b"\x02" + bytes(8), b"\x03\xff"),
        (b"\x02" + bytes(8), b"\x03\x01\x00"),
    ],
    ids=range(12),
)
def test_whole_records_that_this_program_did_not_write_are_refused(tmp_path: Path, content: tuple[bytes, ...]) -> None:
    with pytest.raises(ConsensusLogDamaged, match="another version of astralink-node"):
        written(tmp_path, *content).load()
    assert records(tmp_path) == list(content), "and left alone"


def test_a_sync_is_paid_for_only_where_something_was_recorded(
    log: ConsensusLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = 0
    plain = WriteAheadLog.sync

    def counting(wal: WriteAheadLog) -> None:
        nonlocal syncs
        syncs += 1
        plain(wal)

    monkeypatch.setattr(WriteAheadLog, "sync", counting)
    log.sync()
    assert syncs == 0, "what opening left is on disk"
    log.begin(7)
    log.record(StartHeight())
    log.sync()
    log.sync()
    assert syncs == 1
    log.record_block(b"body")
    log.sync()
    assert syncs == 2
    log.record(StartHeight())
    log.cut()
    log.sync()
    assert syncs == 2, "cutting is durable itself"


def test_a_failed_sync_is_not_taken_for_one(log: ConsensusLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(wal: WriteAheadLog) -> None:
        raise OSError("the disk went away")

    log.begin(7)
    with monkeypatch.context() as patched:
        patched.setattr(WriteAheadLog, "sync", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="the disk went away"):
                log.sync()


def test_a_cut_log_is_empty_after_a_restart_too(log: ConsensusLog, tmp_path: Path) -> None:
    log.begin(7)
    log.record(StartHeight())
    log.cut()
    assert log.load() is None
    log.begin(8)
    log.close()
    assert ConsensusLog(tmp_path).load() == LoggedHeight(8, (), ())


def test_a_fork_is_kept_with_both_certificates_until_somebody_moves_it_away(log: ConsensusLog, tmp_path: Path) -> None:
    own, other = certificate(PRECOMMIT, 0, V), certificate(PRECOMMIT, 1, b"w" * 32)
    assert log.forks() == []
    path = log.export_fork(5, encode_certificate(own), encode_certificate(other))
    content = json.loads(path.read_text())
    assert content["height"] == 5
    assert decode_certificate(bytes.fromhex(content["own"][2:])) == own
    assert decode_certificate(bytes.fromhex(content["other"][2:])) == other
    log.cut()
    assert log.forks() == [path]
    path.unlink()
    assert log.forks() == []


def test_each_sync_that_had_something_to_write_is_timed(tmp_path: Path) -> None:
    metrics = NodeMetrics()
    log = ConsensusLog(tmp_path, metrics)
    log.begin(8)
    log.sync()
    log.sync()
    log.close()
    assert list(metrics.wal_sync_seconds.samples())[-1].endswith("_count 1")
