"""A few blocks of the differential campaign: a devnet and anvil answer alike, but for differences with a reason."""

from __future__ import annotations

from pathlib import Path

from tests.campaigns.rpc_differential import campaign
from tests.support.anvil import installed_anvil

SEED = 5
BLOCKS = 12


def test_a_devnet_answers_as_anvil_does_where_they_are_meant_to(tmp_path: Path) -> None:
    findings = campaign(tmp_path, installed_anvil(), SEED, BLOCKS)
    assert findings.holds, (findings.unexplained, findings.contradictions)
    assert findings.transactions > BLOCKS
    assert findings.known, "the two are different programs"
