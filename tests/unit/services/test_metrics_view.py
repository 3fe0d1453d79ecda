"""What a scrape finds of the node's present state, and of its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from astralink_node.gateway.link_messages import ConsensusState, NetworkView, NodeStatus, SyncProgress
from astralink_node.metrics import NodeMetrics
from astralink_node.services.gateway_link import no_network
from astralink_node.services.metrics_view import STEPS, MetricsView, process_usage
from tests.support.networks import MEMBERS, network_of, waiting

STATUS = NodeStatus("test", 1, bytes(32), True, 1000, 811, 7, 2, True)
NOW_MS = 1_012_500


def samples(metrics: NodeMetrics, state: ConsensusState | None, network: NetworkView) -> dict[str, str]:
    view = MetricsView(
        metrics,
        lambda: STATUS,
        lambda: state,
        lambda: network,
        lambda: {"execution": os.getpid(), "gateway": None},
        lambda: NOW_MS,
    )
    lines = [line for line in view.text().splitlines() if not line.startswith("#")]
    return dict(line.removeprefix("astralink_").split(" ") for line in lines)


def test_the_state_of_a_validator_among_others() -> None:
    metrics = NodeMetrics()
    metrics.head_timestamp_seconds.set(1_000.25)
    network = network_of([1, 2], sync=SyncProgress(5, 811, 900), connections_refused=5, handshakes_failed=7)
    members = tuple(replace(member, is_away=index > 1) for index, member in enumerate(MEMBERS))
    found = samples(metrics, waiting("propose", members=members), network)
    expected = {
        "head_height": "811",
        "head_age_seconds": "12.25",
        "txpool_pending": "7",
        "txpool_queued": "2",
        "consensus_height": "812",
        "consensus_round": "3",
        'consensus_step{step="propose"}': "1",
        'consensus_step{step="commit"}': "0",
        "consensus_step_seconds": "12.5",
        "missing_validators": "2",
        "is_validator": "1",
        "is_signing": "1",
        "peers": "2",
        "connections_refused_total": "5",
        "handshakes_failed_total": "7",
        "validators_connected": "2",
        "validators_known": "3",
        "clock_skew_seconds": "0.01",
        "is_syncing": "1",
        "sync_current_height": "811",
        "sync_highest_height": "900",
    }
    assert {name: found[name] for name in expected} == expected


def test_a_healthy_network_misses_nobody_in_whatever_step_it_is() -> None:
    for step in STEPS:
        assert samples(NodeMetrics(), waiting(step), network_of([1, 2, 3]))["missing_validators"] == "0"


def test_a_node_that_recovers_and_runs_alone_shows_less() -> None:
    metrics = NodeMetrics()
    samples(metrics, waiting("propose"), network_of([1]))
    found = samples(metrics, None, no_network())
    assert not any(name.startswith(("consensus_", "missing_", "sync_", "clock_", "head_age")) for name in found)
    assert (found["peers"], found["is_validator"], found["is_syncing"]) == ("0", "0", "0")


def test_processes_that_run_are_measured() -> None:
    found = samples(NodeMetrics(), None, no_network())
    assert 'process_open_fds{process="execution"}' in found
    assert 'process_open_fds{process="gateway"}' not in found
    assert int(found['process_resident_memory_bytes{process="node"}']) > 10 << 20
    assert float(found['process_cpu_seconds_total{process="node"}']) > 0
    assert int(found['process_open_fds{process="node"}']) >= 3


def test_a_process_that_is_gone_has_no_figures() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert process_usage(process.pid) is None
