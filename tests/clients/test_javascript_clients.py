"""ethers 6 and viem 2, unchanged, against a real devnet: each check of their scripts is a test here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import Devnet, run_javascript

SCRIPT_TIMEOUT_S = 300
# Which of the devnet's accounts a script uses: no two clients share one, so their nonces never meet.
ACCOUNTS = {"ethers": (2, 3), "viem": (4, 5)}
CHECKS = (
    "chain",
    "balance",
    "fee-history",
    "transfer-legacy",
    "transfer-2930",
    "transfer-1559",
    "deploy-erc20",
    "erc20-transfer",
    "deploy-erc721",
    "logs",
    "filter-polling",
    "state-override",
    "simulate-blocks",
    "send-and-wait",
    "trace",
    "unlocked-account",
    "custom-error",
    "set-code-7702",
    "proof",
    "websocket-new-heads",
    "websocket-logs",
    "refused-transaction",
)


@pytest.fixture(scope="module", params=list(ACCOUNTS))
def outcomes(request: pytest.FixtureRequest, devnet: Devnet, artifacts_folder: Path) -> dict[str, dict[str, Any]]:
    client = request.param
    sender, receiver = (devnet.keys[index] for index in ACCOUNTS[client])
    output = run_javascript(
        f"{client}_checks.mjs",
        devnet.http_url,
        devnet.ws_url,
        str(artifacts_folder),
        sender,
        receiver,
        timeout_s=SCRIPT_TIMEOUT_S,
    )
    return {outcome["check"]: outcome for outcome in map(json.loads, output.splitlines())}


@pytest.mark.parametrize("check", CHECKS)
def test_client_works_unchanged(outcomes: dict[str, dict[str, Any]], check: str) -> None:
    assert check in outcomes, "the script ended before this check"
    assert outcomes[check]["ok"], outcomes[check]["detail"]


def test_scripts_run_no_check_that_is_not_listed_here(outcomes: dict[str, dict[str, Any]]) -> None:
    assert sorted(outcomes) == sorted(CHECKS)
