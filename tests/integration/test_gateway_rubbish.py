"""A gateway process is fed a few thousand messages of rubbish; `make rpc-rubbish` feeds it as many as wanted."""

from __future__ import annotations

import os
from pathlib import Path

from tests.campaigns.rpc_rubbish import campaign
from tests.support.asynchronous import run


def test_rubbish_is_answered_or_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    findings = run(lambda: campaign(tmp_path, seed, 4000), timeout_s=120)
    assert findings.wrong == []
    assert findings.answers["-32602"] > 100, "calls that came as far as their parameters"
    assert findings.answers["result"] > 100
    assert findings.growth_bytes < 64 * 1024 * 1024
