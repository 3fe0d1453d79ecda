"""The shape of modules: bounded length, a docstring, and no float, clock or chance where consensus depends on it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("astralink_node", "consensus", "contracts", "genesis", "p2p")
MAX_LINES = 600

# Whatever these compute must come out equal on every node, whatever the machine, the clock or the hash seed.
CONSENSUS_CRITICAL = (
    "consensus/*.py",
    "contracts/artifacts.py",
    "genesis/*.py",
    "astralink_node/state/*.py",
    "astralink_node/evm/*.py",
    "astralink_node/evm/precompiles/*.py",
    "astralink_node/chain/consensus_rules.py",
    "astralink_node/chain/evidence_rules.py",
    "astralink_node/chain/evidence_verification.py",
    "astralink_node/chain/prepared.py",
    "astralink_node/chain/protocol_steps.py",
    "astralink_node/chain/staking_contract.py",
    "astralink_node/chain/validation.py",
)
# Simulation answers one RPC call and is bounded in wall-clock time; no block depends on it.
NOT_CRITICAL = {"astralink_node/evm/simulate.py"}
FORBIDDEN_IMPORTS = {"time", "datetime", "random", "secrets", "statistics", "decimal", "fractions", "threading"}
FORBIDDEN_CALLS = {"float", "hash", "round", "id"}


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_module_is_short_and_says_what_it_is(path: Path) -> None:
    source = path.read_text()
    assert source.count("\n") <= MAX_LINES, f"{name_of(path)} is longer than {MAX_LINES} lines"
    if path.name != "__init__.py":
        assert ast.get_docstring(ast.parse(source)), f"{name_of(path)} has no docstring"


@pytest.mark.parametrize("pattern", [*CONSENSUS_CRITICAL, *sorted(NOT_CRITICAL)])
def test_every_pattern_names_a_module_that_exists(pattern: str) -> None:
    assert list(ROOT.glob(pattern))


def critical_modules() -> list[Path]:
    return sorted(
        {path for pattern in CONSENSUS_CRITICAL for path in ROOT.glob(pattern)} - {ROOT / n for n in NOT_CRITICAL}
    )


def nondeterminism(tree: ast.AST) -> list[str]:
    """Each float literal, true division, and import or call that could differ between nodes, as `line: what`."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float() | complex()):
                found.append(f"{node.lineno}: float {node.value}")
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                found.append(f"{node.lineno}: true division")
            case ast.Import(names=names) if clash := FORBIDDEN_IMPORTS & {alias.name for alias in names}:
                found.append(f"{node.lineno}: import {', '.join(sorted(clash))}")
            case ast.ImportFrom(module=str() as module, level=0) if module in FORBIDDEN_IMPORTS:
                found.append(f"{node.lineno}: import {module}")
            case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
                found.append(f"{node.lineno}: {name}()")
            case ast.For(iter=ast.Set() | ast.SetComp()):
                found.append(f"{node.lineno}: iterates over a set")
    return found


@pytest.mark.parametrize("path", critical_modules(), ids=name_of)
def test_consensus_critical_module_is_deterministic(path: Path) -> None:
    assert nondeterminism(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    ["x = 0.5", "x = a / b", "x /= 2", "import time", "from random import choice", "hash(x)", "for x in {1, 2}: pass"],
)
def test_the_determinism_check_sees_an_offence(source: str) -> None:
    assert len(nondeterminism(ast.parse(source))) == 1
