"""Structured logs on stderr: a readable line for people, or one JSON object a line with `--log-format json`.

An event is a short constant sentence; everything that varies is a field beside it. Fields whose names say that
they hold a secret are never written, whatever their value.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

FORMATS: Final = ("console", "json")
LEVELS: Final = ("debug", "info", "warning", "error")

_ROOT: Final = "astralink_node"
_SECRET_WORDS: Final = ("password", "secret", "private", "mnemonic", "seed", "keystore")
_REDACTED: Final = "[not logged]"
_LEVEL_MARKS: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}

Field = str | int | float | bool | bytes | None


class Log:
    """One part of the program that reports events. Cheap to make; keep one a module or an object."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{name}")

    def debug(self, event: str, **fields: Field) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Field) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Field) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Field) -> None:
        self._write(logging.ERROR, event, fields)

    def _write(self, level: int, event: str, fields: dict[str, Field]) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": {name: _shown(name, fields[name]) for name in fields}})


def configure(level: str, format_: str, stream: TextIO | None = None) -> None:
    """Send every event of this process to `stream` (stderr). Called once, by the composition root."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(_JsonFormatter() if format_ == "json" else _ConsoleFormatter())
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def _shown(name: str, value: Field) -> Field:
    if any(word in name.lower() for word in _SECRET_WORDS):
        return _REDACTED
    return f"0x{value.hex()}" if isinstance(value, bytes) else value


def _fields_of(record: logging.LogRecord) -> dict[str, Field]:
    fields: dict[str, Field] = getattr(record, "fields", {})
    return fields


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone()
        level = _LEVEL_MARKS.get(record.levelname, record.levelname)
        fields = "".join(f" {name}={_plain(value)}" for name, value in _fields_of(record).items())
        line = f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d} {level:<5} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, Field] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix(f"{_ROOT}."),
            "event": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def _plain(value: Field) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text or "\n" in text else text
