"""Compiles the Vyper sources into the committed artifacts: `python -m contracts.build [--check]`.

Needs the extra `contracts` (Vyper). The same sources give the same bytes on every machine; `--check` writes nothing
and fails if an artifact is not what its source compiles to. Genesis installs runtime code as it stands here, so a
contract must need no constructor, and must keep within EIP-170.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from consensus.hashing import keccak256
from contracts.artifacts import ARTIFACTS
from contracts.places import CONTRACTS

SOURCES: Final = Path(__file__).parent / "staking"
MAX_CODE_BYTES: Final = 24_576
"""EIP-170."""
EVM_VERSION: Final = "prague"

# Which sources make up each contract, itself first.
PARTS: Final = {
    "Staking": ("Staking.vy", "StakingState.vy"),
    "StakingAnnex": ("StakingAnnex.vy", "StakingState.vy"),
    "KeyProofs": ("KeyProofs.vy",),
    "Governance": ("Governance.vy",),
}


class BuildError(Exception):
    """A contract that must not be installed as it is."""


def build() -> dict[str, bytes]:
    """The text of each artifact's file, by the contract's name. Raises `BuildError`, and what Vyper raises."""
    compiled = {name: _compile(name) for name in CONTRACTS}
    # The annex runs in Staking's storage and is called at its address.
    if compiled["Staking"]["layout"]["storage_layout"] != compiled["StakingAnnex"]["layout"]["storage_layout"]:
        raise BuildError("Staking and StakingAnnex: expected one storage layout, found two")
    own = compiled["Staking"]["abi"]
    compiled["Staking"]["abi"] = [*own, *(entry for entry in compiled["StakingAnnex"]["abi"] if entry not in own)]
    return {name: _artifact(name, output) for name, output in compiled.items()}


def main(arguments: Sequence[str]) -> int:
    """0 if the artifacts are written, or are as they should be; 1 if `--check` finds one that is not."""
    if list(arguments) not in ([], ["--check"]):
        print(f"expected nothing or --check, found {' '.join(arguments)}", file=sys.stderr)
        return 2
    stale = []
    for name, text in build().items():
        path = ARTIFACTS / f"{name}.json"
        if path.exists() and path.read_bytes() == text:
            continue
        stale.append(name)
        if not arguments:
            path.write_bytes(text)
    for name in stale:
        print(f"{name}.json: {'differs from its source; run `make contracts`' if arguments else 'written'}")
    return 1 if stale and arguments else 0


def _compile(name: str) -> dict[str, Any]:
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FilesystemInputBundle
    from vyper.compiler.settings import OptimizationLevel, Settings

    bundle = FilesystemInputBundle([SOURCES])
    settings = Settings(
        compiler_version=None,
        optimize=OptimizationLevel.CODESIZE,
        evm_version=EVM_VERSION,
        experimental_codegen=False,
    )
    output: dict[str, Any] = compile_from_file_input(
        bundle.load_file(f"{name}.vy"),
        input_bundle=bundle,
        settings=settings,
        output_formats=["abi", "bytecode_runtime", "layout"],
    )
    return output


def _artifact(name: str, output: Mapping[str, Any]) -> bytes:
    import vyper

    code = bytes.fromhex(output["bytecode_runtime"].removeprefix("0x"))
    if len(code) > MAX_CODE_BYTES:
        raise BuildError(f"{name}: expected at most {MAX_CODE_BYTES} bytes of code, found {len(code)}")
    if output["layout"].get("code_layout"):
        raise BuildError(f"{name}: expected no immutables, which only a constructor sets")
    sources = b"".join(part.encode() + b"\0" + (SOURCES / part).read_bytes() + b"\0" for part in PARTS[name])
    fields = {
        "name": name,
        "compiler": f"vyper {vyper.__version__}, codesize, {EVM_VERSION}",
        "sourceHash": "0x" + keccak256(sources).hex(),
        "runtimeCode": "0x" + code.hex(),
        "abi": [entry for entry in output["abi"] if entry["type"] in ("function", "event")],
    }
    return (json.dumps(fields, indent=1) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
