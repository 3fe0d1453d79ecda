"""The suite's own set-up: test data is unpacked whole, once, and again when an archive changes."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.support.fixture_archives import unpack_fixtures


def write_archive(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def test_archive_is_unpacked_once_and_again_when_it_changes(tmp_path: Path) -> None:
    archive = tmp_path / "data.tar.xz"
    write_archive(archive, {"vectors/a.json": b"1", "vectors/b.json": b"2"})
    unpack_fixtures(tmp_path)
    first = tmp_path / "unpacked/vectors/a.json"
    written_ns = first.stat().st_mtime_ns, first.stat().st_ino
    unpack_fixtures(tmp_path)
    assert (first.stat().st_mtime_ns, first.stat().st_ino) == written_ns

    write_archive(archive, {"vectors/a.json": b"3"})
    unpack_fixtures(tmp_path)
    assert first.read_bytes() == b"3"
    assert not (tmp_path / "unpacked/vectors/b.json").exists(), "a file that the new archive lacks must go"


def test_interrupted_unpacking_is_redone(tmp_path: Path) -> None:
    write_archive(tmp_path / "data.tar.xz", {"vectors/a.json": b"1"})
    unpack_fixtures(tmp_path)
    unpacked = tmp_path / "unpacked"
    (unpacked / ".data.tar.xz.sha256").unlink()
    (unpacked / ".staging-data.tar.xz").mkdir()
    (unpacked / "vectors/a.json").write_bytes(b"")
    unpack_fixtures(tmp_path)
    assert (unpacked / "vectors/a.json").read_bytes() == b"1"
    assert sorted(path.name for path in unpacked.iterdir()) == [".data.tar.xz.sha256", ".lock", "vectors"]


def test_missing_archives_fail_loudly(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no test data"):
        unpack_fixtures(tmp_path)
