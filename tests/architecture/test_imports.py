"""Who may import what, beyond the layers that import-linter holds: each foreign library has its one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("astralink_node", "consensus", "contracts", "genesis", "p2p")

# Foreign package -> the only files that may name it. A swap of that library then touches those files alone.
ONLY_IMPORTERS = {
    "plyvel": ["astralink_node/storage/leveldb.py"],
    "eth": ["astralink_node/evm/*"],
    "py_arkworks_bls12381": [
        "astralink_node/crypto/bls.py",
        "astralink_node/evm/precompiles/bls12_381.py",
        "astralink_node/evm/precompiles/kzg.py",
    ],
    "zksnake": ["astralink_node/evm/precompiles/bn254.py"],
    "ckzg": ["astralink_node/evm/precompiles/kzg.py"],
    "coincurve": ["astralink_node/crypto/secp256k1.py"],
    "gmpy2": ["astralink_node/evm/precompiles/*"],
    "cryptography.hazmat.primitives.asymmetric.mldsa": ["astralink_node/crypto/ml_dsa.py"],
    "asyncio": ["astralink_node/gateway/*"],
    "uvicorn": ["astralink_node/gateway/*"],
    "starlette": ["astralink_node/gateway/*"],
    "trio": [
        "astralink_node/chain/*",
        "astralink_node/services/*",
        "astralink_node/cli/*",
        "astralink_node/node.py",
        "p2p/*",
    ],
    "libp2p": ["p2p/libp2p_host.py", "p2p/libp2p_patches.py"],
    "multiaddr": ["p2p/libp2p_host.py"],
    "vyper": ["contracts/build.py"],
    "eth_abi": ["contracts/artifacts.py"],
    "click": ["astralink_node/cli/*"],
}


def modules() -> list[Path]:
    found = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert len(found) > 50, "the packages were not found, so these tests would check nothing"
    return found


@cache
def imported_names(source: str) -> tuple[tuple[int, str], ...]:
    """(line, dotted name) of every absolute import, wherever in the module it stands."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.extend((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.lineno, node.module))
    return tuple(found)


def offences(package: str, allowed: list[str], path: Path, source: str) -> list[str]:
    if any(fnmatch(path.as_posix(), pattern) for pattern in allowed):
        return []
    return [
        f"{path}:{line} imports {name}"
        for line, name in imported_names(source)
        if name == package or name.startswith(package + ".")
    ]


@pytest.mark.parametrize("package", ONLY_IMPORTERS)
def test_foreign_library_is_imported_in_its_one_place(package: str) -> None:
    found = [
        offence
        for path in modules()
        for offence in offences(package, ONLY_IMPORTERS[package], path, (ROOT / path).read_text())
    ]
    assert found == []


def test_the_import_check_sees_an_offence() -> None:
    source = "def late():\n    from eth.vm import state\n    import ethereal\n"
    assert offences("eth", ["astralink_node/evm/*"], Path("astralink_node/chain/x.py"), source) == [
        "astralink_node/chain/x.py:2 imports eth.vm"
    ]
    assert offences("eth", ["astralink_node/evm/*"], Path("astralink_node/evm/precompiles/x.py"), source) == []


def loaded_after(statement: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after the statement."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return set(ran.stdout.split())


def test_evm_package_is_empty_so_that_its_values_load_alone() -> None:
    assert (ROOT / "astralink_node/evm/__init__.py").read_text().strip() == ""


def test_block_and_transaction_values_do_not_load_py_evm() -> None:
    loaded = loaded_after("import astralink_node.evm.blocks, astralink_node.evm.transactions")
    assert "eth" not in loaded
    assert "trie" not in loaded


def test_gateway_process_loads_neither_py_evm_nor_trio_nor_the_database() -> None:
    loaded = loaded_after("import astralink_node.gateway.server")
    assert "uvicorn" in loaded
    assert loaded & {"eth", "trio", "plyvel", "eth_abi", "pydantic"} == set()


def test_node_that_goes_on_with_its_chain_and_validates_with_its_own_keys_loads_neither_py_evm_nor_x509() -> None:
    """Only where a chain begins does its process need the EVM; the execution process has its own."""
    loaded = loaded_after("import astralink_node.cli.devnet, astralink_node.cli.start")
    assert "trio" in loaded
    assert loaded & {"eth", "trie", "eth_abi", "pydantic", "asyncio"} == set()
    code = "import sys, astralink_node.cli.start\nprint('cryptography.x509' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"


def test_consensus_loads_nothing_of_the_node() -> None:
    names = ", ".join(
        f"consensus.{path.stem}" for path in sorted((ROOT / "consensus").glob("*.py")) if path.stem[0] != "_"
    )
    assert loaded_after(f"import {names}") & {"astralink_node", "genesis", "p2p", "eth", "trio", "asyncio"} == set()


def test_keccak_backend_is_the_fast_one_as_soon_as_the_node_is_imported() -> None:
    code = "import astralink_node, eth_hash.auto as h; h.keccak(b''); print(h.keccak.hasher.__module__)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "pysha3" in ran.stdout
