"""Unpacks the published test data: tests/fixtures/*.tar.xz into tests/fixtures/unpacked, once per archive content.

Several pytest workers may start together, and any of them may be killed half-way: one lock, a staging folder
beside the target, and a stamp with the archive's digest written last.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import tarfile
from pathlib import Path

FIXTURES = Path(__file__).parents[1] / "fixtures"


def unpack_fixtures(fixtures: Path = FIXTURES) -> None:
    """Bring ``unpacked`` up to date with every archive; costs one digest each when nothing changed."""
    archives = sorted(fixtures.glob("*.tar.xz"))
    if not archives:
        raise FileNotFoundError(f"no test data archives (*.tar.xz) in {fixtures}")
    unpacked = fixtures / "unpacked"
    unpacked.mkdir(exist_ok=True)
    with (unpacked / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for archive in archives:
            unpack_archive(archive, unpacked)


def unpack_archive(archive: Path, unpacked: Path) -> None:
    """Replace the archive's top-level folders; the caller holds the lock."""
    stamp = unpacked / f".{archive.name}.sha256"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    stamp.unlink(missing_ok=True)
    staging = unpacked / f".staging-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    with tarfile.open(archive) as reader:
        # The safe filter exists from Python 3.11.4; older ones ignore the attribute, and our archives are our own.
        reader.extraction_filter = getattr(tarfile, "data_filter", None)
        reader.extractall(staging)
    for folder in sorted(staging.iterdir()):
        shutil.rmtree(unpacked / folder.name, ignore_errors=True)
        folder.rename(unpacked / folder.name)
    staging.rmdir()
    stamp.write_text(digest)
