"""What is committed names no machine and no registry, and pins every package by its content."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("name", "least"), [("requirements.txt", 100), ("requirements-source.txt", 2)])
def test_every_python_package_is_pinned_by_hash(name: str, least: int) -> None:
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 2)[2])
    assert len(entries) >= least
    assert [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?://|file:|--index-url|--find-links", text) == []


def test_no_python_package_needs_a_compiler() -> None:
    """What has no wheel is pure Python and in the lock file of its own; fastecdsa is C, and left out on purpose."""
    built = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-source.txt").read_text(), re.MULTILINE)
    installed = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert built == ["python-baseconv", "varint"]
    assert {"fastecdsa", *built} & set(installed) == set()


@pytest.mark.parametrize("folder", ["tests/clients", "tests/interop", "tests/toolchains"])
def test_every_npm_package_is_pinned_by_content_and_no_registry_is_named(folder: str) -> None:
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 20
    assert [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_makefile_describes_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = makefile.split(".PHONY:")[1].replace("\\\n", " ").splitlines()[0].split()
    described = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony) - described == {"clients-setup"}, "what `make` alone does not list"
    assert described <= set(phony), "a file of that name would hide the target"
