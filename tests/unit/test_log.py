"""Log lines: for people, for programs, and never with a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from astralink_node.log import Log, configure


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger("astralink_node")
    before = (root.handlers[:], root.level, root.propagate)
    yield
    root.handlers[:], root.propagate = before[0], before[2]
    root.setLevel(before[1])


def written(level: str, format_: str) -> io.StringIO:
    stream = io.StringIO()
    configure(level, format_, stream)
    return stream


def test_console_line_has_time_level_event_and_fields() -> None:
    stream = written("info", "console")
    Log("test").info("block committed", height=7, hash=b"\xab\xcd", reason="two words")
    line = stream.getvalue()
    assert line.endswith(' INFO  block committed height=7 hash=0xabcd reason="two words"\n')


def test_json_line_is_one_object() -> None:
    stream = written("info", "json")
    Log("test").warning("slow", ms=12, note="a\nb")
    entry = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert {"level": "warning", "part": "test", "event": "slow", "ms": 12, "note": "a\nb"}.items() <= entry.items()
    assert entry["time"].endswith("Z")


def test_level_is_a_floor() -> None:
    stream = written("warning", "console")
    Log("test").info("quiet")
    Log("test").debug("quieter")
    Log("test").error("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


@pytest.mark.parametrize("format_", ["console", "json"])
@pytest.mark.parametrize("name", ["password", "private_key", "checkpoint_seed", "mnemonic", "SecretKey"])
def test_field_that_names_a_secret_is_not_written(format_: str, name: str) -> None:
    stream = written("debug", format_)
    Log("test").info("opened", **{name: "hunter2"})
    assert "hunter2" not in stream.getvalue()
    assert "[not logged]" in stream.getvalue()


def test_line_break_in_a_value_does_not_start_a_line_of_its_own() -> None:
    stream = written("info", "console")
    Log("test").info("said", text="a\n12:00:00 INFO forged")
    assert stream.getvalue().count("\n") == 1
