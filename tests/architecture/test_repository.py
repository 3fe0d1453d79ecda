"""What is committed names no machine and no registry, and pins every package by its content."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_python_package_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements.txt").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 2)[2])
    assert len(entries) > 50
    assert [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?://|file:|--index-url|--find-links", text) == []


def test_every_npm_package_is_pinned_by_content_and_no_registry_is_named() -> None:
    lock = json.loads((ROOT / "tests/clients/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 20
    assert [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_makefile_describes_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = makefile.split(".PHONY:")[1].splitlines()[0].split()
    described = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony) - described == {"clients-setup"}, "what `make` alone does not list"
