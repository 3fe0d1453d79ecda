"""Ethereum's execution-spec-tests for Prague and Osaka on our pipeline, one test a fixture file.

All cases pass but those listed in ``data/eest_blob_cases.txt``, which need blob transactions.
"""

import json
from pathlib import Path

import pytest

from astralink_node.evm.spec_tests import run_fixture
from astralink_node.evm.transactions import TransactionRule

FIXTURES = Path(__file__).parents[1] / "fixtures" / "unpacked" / "eest"
FIXTURE_FILES = 1_449
"""In tests/fixtures/eest.tar.xz: 5,107 state cases and 772 blockchain cases."""
BLOB_CASES = frozenset(
    line
    for line in (Path(__file__).parent / "data" / "eest_blob_cases.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def fixture_files() -> list[Path]:
    files = sorted(FIXTURES.rglob("*.json"))
    if len(files) != FIXTURE_FILES:
        raise FileNotFoundError(f"{FIXTURES}: expected {FIXTURE_FILES} fixture files, found {len(files)}; run `make`")
    # The slowest first, so that two workers end at about the same time.
    return sorted(files, key=lambda path: not any(word in path.name for word in ("until_out_of_gas", "Call50000")))


@pytest.mark.parametrize("path", fixture_files(), ids=lambda path: str(path.relative_to(FIXTURES)))
def test_every_case_of_the_file_has_the_expected_outcome(path: Path) -> None:
    results = list(run_fixture(json.loads(path.read_bytes())))
    assert results, "a fixture file holds cases"
    failures = {result.name: result.error for result in results if not result.passed}
    assert {name: error for name, error in failures.items() if name not in BLOB_CASES} == {}
    for result in results:
        if result.name in BLOB_CASES:
            assert not result.passed
            assert result.error.startswith(TransactionRule.BLOB_UNSUPPORTED.value)
