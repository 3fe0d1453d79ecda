"""Committed artifacts are what the sources compile to, and the ABI codec reads what contracts write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from contracts import build
from contracts.artifacts import (
    ARTIFACTS,
    AbiError,
    decode_call,
    decode_error,
    decode_event,
    decode_result,
    encode_call,
    load,
)
from contracts.places import CONTRACTS

ROOT = Path(__file__).parents[2]
STAKING = load("Staking")
OPERATOR = b"\x11" * 20


@pytest.fixture(scope="module")
def built() -> dict[str, bytes]:
    return build.build()


@pytest.mark.parametrize("name", CONTRACTS)
def test_committed_artifact_is_what_its_source_compiles_to(name: str, built: dict[str, bytes]) -> None:
    assert (ARTIFACTS / f"{name}.json").read_bytes() == built[name]


def test_there_is_no_artifact_without_a_source() -> None:
    assert {path.stem for path in ARTIFACTS.glob("*.json")} == set(CONTRACTS)


def test_check_fails_for_an_artifact_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in built.items():
        (tmp_path / f"{name}.json").write_bytes(text)
    monkeypatch.setattr(build, "ARTIFACTS", tmp_path)
    monkeypatch.setattr(build, "build", lambda: built)
    assert build.main(["--check"]) == 0
    stale = (tmp_path / "Governance.json").read_bytes().replace(b'"0x5f', b'"0x60', 1)
    (tmp_path / "Governance.json").write_bytes(stale)
    assert build.main(["--check"]) == 1
    assert "Governance.json: differs" in capsys.readouterr().out
    assert (tmp_path / "Governance.json").read_bytes() == stale
    assert build.main([]) == 0
    assert build.main(["--check"]) == 0


@pytest.mark.parametrize("name", CONTRACTS)
def test_code_fits_what_eip_170_allows(name: str) -> None:
    assert 0 < len(load(name).runtime_code) <= 24_576


@pytest.mark.parametrize(("size", "fits"), [(24_576, True), (24_577, False)])
def test_code_beyond_the_limit_is_refused(size: int, fits: bool) -> None:
    output = {"bytecode_runtime": "0x" + "00" * size, "layout": {}, "abi": []}
    if fits:
        build._artifact("KeyProofs", output)
        return
    with pytest.raises(build.BuildError, match="at most 24576 bytes of code, found 24577"):
        build._artifact("KeyProofs", output)


def test_contract_that_needs_a_constructor_is_refused() -> None:
    output = {"bytecode_runtime": "0x00", "layout": {"code_layout": {"OWNER": {"offset": 0}}}, "abi": []}
    with pytest.raises(build.BuildError, match="no immutables"):
        build._artifact("KeyProofs", output)


def test_artifacts_load_without_a_compiler() -> None:
    code = "import sys, contracts.artifacts as a; a.load('Staking'); print('vyper' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"


def test_staking_offers_the_annex_too() -> None:
    annex = load("StakingAnnex")
    own = {entry["name"] for entry in annex.abi if entry["type"] == "function"}
    assert {"validator", "candidates", "totals", "freeze", "judge", "unjail"} <= own <= set(STAKING.functions)
    assert {"Frozen", "Judged", "Unjailed"} <= {event.name for event in annex.events.values()}
    assert annex.events.items() <= STAKING.events.items()


def test_no_name_stands_twice_in_an_abi() -> None:
    for name in CONTRACTS:
        names = [(entry["type"], entry["name"]) for entry in load(name).abi]
        assert sorted(names) == sorted(set(names)), name


def test_every_external_function_says_what_it_does() -> None:
    for name in CONTRACTS:
        lines = (ROOT / "contracts/staking" / f"{name}.vy").read_text().split("@external\n")[1:]
        assert all('"""\n    @notice' in part or '"""\n    @return' in part for part in lines), name


def test_call_is_selector_and_arguments() -> None:
    data = encode_call(STAKING, "undelegate", (OPERATOR, 5))
    assert data == STAKING.functions["undelegate"].selector + OPERATOR.rjust(32, b"\0") + (5).to_bytes(32, "big")
    assert decode_call(STAKING, data) == ("undelegate", (OPERATOR, 5))


def test_selectors_are_those_of_the_published_signatures() -> None:
    from eth_utils import function_signature_to_4byte_selector as selector

    assert STAKING.functions["unjail"].selector == selector("unjail()")
    assert STAKING.functions["begin_block"].selector == selector(
        "begin_block(address,uint256,uint256,uint256,uint256[],uint256[],uint256)"
    )
    assert STAKING.functions["initialise"].selector == selector(
        "initialise((address,bytes,bytes32,uint256)[],uint256[17],uint256,uint256,uint256,bytes32,uint256)"
    )


def test_call_for_no_function_of_the_contract_is_none() -> None:
    assert decode_call(STAKING, b"\0\0\0\0") is None


def test_unknown_function_is_named() -> None:
    with pytest.raises(AbiError, match="found mint"):
        encode_call(STAKING, "mint", ())


def test_wrong_number_of_arguments_is_refused() -> None:
    with pytest.raises(AbiError, match="expected 2 arguments, found 1"):
        encode_call(STAKING, "undelegate", (OPERATOR,))


def test_argument_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(AbiError, match="undelegate"):
        encode_call(STAKING, "undelegate", (OPERATOR, -1))


def test_result_that_is_cut_off_is_refused() -> None:
    with pytest.raises(AbiError, match=r"Staking\.set_record"):
        decode_result(STAKING, "set_record", bytes(63))


def test_error_without_a_reason_is_none() -> None:
    assert decode_error(b"") is None
    assert decode_error(bytes.fromhex("4e487b71") + bytes(32)) is None
    assert decode_error(bytes.fromhex("08c379a0") + b"\xff") is None


def test_log_of_another_event_is_none() -> None:
    assert decode_event(STAKING, [bytes(32)], b"") is None
    assert decode_event(STAKING, [], b"") is None


def test_event_with_a_topic_too_few_is_refused() -> None:
    (topic,) = [topic for topic, event in STAKING.events.items() if event.name == "Unjailed"]
    with pytest.raises(AbiError, match="expected 2 topics, found 1"):
        decode_event(STAKING, [topic], b"")


def test_artifact_names_its_compiler_and_sources() -> None:
    fields = json.loads((ARTIFACTS / "Staking.json").read_text())
    assert fields["compiler"] == STAKING.compiler == "vyper 0.4.3, codesize, prague"
    assert fields["sourceHash"] == "0x" + STAKING.source_hash.hex()
