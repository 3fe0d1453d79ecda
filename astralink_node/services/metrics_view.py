"""Fills in the metrics that are a look at the node's present state, when somebody asks for them.

What happens over time (blocks, votes, disk) is counted where it happens. The three processes' figures come from
Linux's /proc; of a process that is gone there are none.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from astralink_node.clock import NowMs
from astralink_node.gateway.link_messages import ConsensusState, NetworkView, NodeStatus
from astralink_node.metrics import NodeMetrics
from astralink_node.services.gateway_link import ConsensusStateSource, NetworkSource, NodeStatusSource

STEPS: Final = ("new_height", "propose", "prevote", "precommit", "commit")
_CPU_FIELDS: Final = (11, 12)
"""utime and stime of /proc/PID/stat, counted from the field after the command's name."""
_RESIDENT_PAGES_FIELD: Final = 21


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    resident_bytes: int
    cpu_seconds: float
    open_fds: int


class MetricsView:
    """`text` is what a scrape gets. `processes` names this node's other processes with their ids; None: not running."""

    def __init__(
        self,
        metrics: NodeMetrics,
        status: NodeStatusSource,
        consensus: ConsensusStateSource,
        network: NetworkSource,
        processes: Callable[[], Mapping[str, int | None]],
        now_ms: NowMs,
    ) -> None:
        self._metrics = metrics
        self._status = status
        self._consensus = consensus
        self._network = network
        self._processes = processes
        self._now_ms = now_ms

    def text(self) -> str:
        network = self._network()
        self._look_at_chain(self._status())
        self._look_at_consensus(self._consensus())
        self._look_at_network(network)
        self._look_at_processes()
        return self._metrics.text()

    def _look_at_chain(self, status: NodeStatus) -> None:
        metrics = self._metrics
        metrics.head_height.set(status.head_height)
        made_s = metrics.head_timestamp_seconds.value
        metrics.head_age_seconds.set(None if made_s is None else round(max(0.0, self._now_ms() / 1000 - made_s), 3))
        metrics.txpool_pending.set(status.pending_transactions)
        metrics.txpool_queued.set(status.queued_transactions)

    def _look_at_consensus(self, state: ConsensusState | None) -> None:
        metrics = self._metrics
        metrics.consensus_height.set(None if state is None else state.height)
        metrics.consensus_round.set(None if state is None else state.round_)
        metrics.consensus_step.set_all({} if state is None else {step: step == state.step for step in STEPS})
        waited_ms = None if state is None else max(0, self._now_ms() - state.waiting_since_ms)
        metrics.consensus_step_seconds.set(None if waited_ms is None else waited_ms / 1000)
        metrics.missing_validators.set(None if state is None else sum(member.is_away for member in state.members))
        metrics.is_validator.set(state is not None and state.is_validator)
        metrics.is_signing.set(state is not None and state.is_signing)

    def _look_at_network(self, network: NetworkView) -> None:
        metrics, sync, skew_ms = self._metrics, network.sync, network.clock_skew_ms
        metrics.peers.set(len(network.peers))
        metrics.connections_refused.set(network.connections_refused)
        metrics.handshakes_failed.set(network.handshakes_failed)
        metrics.validators_connected.set(network.validators_connected)
        metrics.validators_known.set(len(network.validators))
        metrics.clock_skew_seconds.set(None if skew_ms is None else skew_ms / 1000)
        metrics.is_syncing.set(sync is not None)
        metrics.sync_current_height.set(None if sync is None else sync.current_height)
        metrics.sync_highest_height.set(None if sync is None else sync.highest_height)

    def _look_at_processes(self) -> None:
        found = {"node": process_usage(os.getpid())}
        found |= {name: process_usage(pid) for name, pid in self._processes().items() if pid is not None}
        usages = {name: usage for name, usage in found.items() if usage is not None}
        metrics = self._metrics
        metrics.process_resident_bytes.set_all({name: usage.resident_bytes for name, usage in usages.items()})
        metrics.process_cpu_seconds.set_all({name: usage.cpu_seconds for name, usage in usages.items()})
        metrics.process_open_fds.set_all({name: usage.open_fds for name, usage in usages.items()})
        metrics.tasks.set(trio.lowlevel.current_statistics().tasks_living if trio.lowlevel.in_trio_run() else None)


def process_usage(pid: int) -> ProcessUsage | None:
    """None: there is no such process, or it is not this user's. See proc(5)."""
    folder = Path("/proc") / str(pid)
    try:
        # The command's name stands in brackets and may hold anything; what follows does not.
        fields = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        open_fds = len(os.listdir(folder / "fd"))
    except OSError:
        return None
    ticks = sum(int(fields[index]) for index in _CPU_FIELDS)
    return ProcessUsage(
        resident_bytes=int(fields[_RESIDENT_PAGES_FIELD]) * os.sysconf("SC_PAGE_SIZE"),
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        open_fds=open_fds,
    )
