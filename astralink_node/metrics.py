"""What a node counts and measures, in Prometheus' text format: this module owns every name.

A small registry of our own: counters, gauges and histograms with fixed buckets, at most one label each. Values are
set where things happen, or when somebody asks. Nothing here waits, reads a clock or knows who serves the text.
https://prometheus.io/docs/instrumenting/exposition_formats, version 0.0.4.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_LABEL_VALUES: Final = 64
"""Of one metric; samples of further ones are dropped."""

BLOCK_SECONDS: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0)
CONSENSUS_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
DISK_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Metric:
    """A counter or a gauge. Without a label it has one value; with one, a value for each label value."""

    def __init__(self, kind: Literal["counter", "gauge"], name: str, meaning: str, label: str = "") -> None:
        self.kind: Final = kind
        self.name: Final = name
        self.meaning: Final = meaning
        self._label = label
        self._values: dict[str, float] = {}
        if kind == "counter" and not label:
            self._values[""] = 0

    def add(self, amount: float = 1, of: str = "") -> None:
        if of in self._values or len(self._values) < MAX_LABEL_VALUES:
            self._values[of] = self._values.get(of, 0) + amount

    def set(self, value: float | None, of: str = "") -> None:
        """None: it is not known, and not shown."""
        if value is None:
            self._values.pop(of, None)
        elif of in self._values or len(self._values) < MAX_LABEL_VALUES:
            self._values[of] = value

    @property
    def value(self) -> float | None:
        """Of a metric without a label."""
        return self._values.get("")

    def set_all(self, values: Mapping[str, float]) -> None:
        """In place of all there were."""
        self._values = dict(list(values.items())[:MAX_LABEL_VALUES])

    def samples(self) -> Iterator[str]:
        for of, value in self._values.items():
            yield f"{self.name}{_labels(self._label, of)} {_number(value)}"


class Histogram:
    """How often a value came out at most as large as each of its bounds."""

    kind: Final = "histogram"

    def __init__(self, name: str, meaning: str, bounds: tuple[float, ...]) -> None:
        self.name: Final = name
        self.meaning: Final = meaning
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def samples(self) -> Iterator[str]:
        total = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            total += count
            le = "+Inf" if bound is None else _number(bound)
            yield f'{self.name}_bucket{{le="{le}"}} {total}'
        yield f"{self.name}_sum {_number(self._sum)}"
        yield f"{self.name}_count {total}"


class NodeMetrics:
    """Of one node. Gauges hold what was true when they were set last."""

    def __init__(self) -> None:
        self._all: list[Metric | Histogram] = []
        # The chain.
        self.head_height = self._gauge("head_height", "Height of the newest committed block.")
        self.head_timestamp_seconds = self._gauge("head_timestamp_seconds", "Unix time of the newest committed block.")
        self.head_age_seconds = self._gauge("head_age_seconds", "How long ago the newest committed block was made.")
        self.block_interval_seconds = self._histogram(
            "block_interval_seconds",
            "Time between a committed block and its parent, by their timestamps; not of block 1.",
            BLOCK_SECONDS,
        )
        self.txpool_pending = self._gauge("txpool_pending", "Transactions that a block could include now.")
        self.txpool_queued = self._gauge("txpool_queued", "Transactions that miss an earlier nonce.")
        # Consensus.
        self.consensus_height = self._gauge("consensus_height", "Height that is being decided.")
        self.consensus_round = self._gauge("consensus_round", "Round that it is in.")
        self.consensus_step = self._gauge("consensus_step", "1 for the step that it is in, 0 for the others.", "step")
        self.consensus_step_seconds = self._gauge("consensus_step_seconds", "How long it has been in this step.")
        self.missing_validators = self._gauge(
            "missing_validators",
            "Validators without a vote at the last two heights and the present one, or for 10 s where it stands still.",
        )
        self.is_validator = self._gauge("is_validator", "1 if this node's key is in the voting set.")
        self.is_signing = self._gauge("is_signing", "1 if this node signs votes now.")
        self.proposal_to_commit_seconds = self._histogram(
            "proposal_to_commit_seconds",
            "From the arrival of the proposal that was decided (own ones: its signing) to its commit.",
            CONSENSUS_SECONDS,
        )
        self.votes_verified = self._counter("votes_verified_total", "Votes of others whose signatures hold.")
        self.evidence = self._counter("evidence_total", "Proofs that a validator contradicted itself.")
        self.wal_sync_seconds = self._histogram(
            "wal_sync_seconds", "How long the consensus log took to reach the disk.", DISK_SECONDS
        )
        # The network.
        self.peers = self._gauge("peers", "Peers that are connected and welcome.")
        self.validators_connected = self._gauge("validators_connected", "Other validators whose nodes are connected.")
        self.validators_known = self._gauge("validators_known", "Other validators whose nodes are known.")
        self.connections_refused = self._counter(
            "connections_refused_total", "Connections of others that were closed for a ban or want of room."
        )
        self.handshakes_failed = self._counter(
            "handshakes_failed_total", "Connections of others that came to no handshake."
        )
        self.clock_skew_seconds = self._gauge(
            "clock_skew_seconds", "How far the peers' clocks are ahead of this node's, median."
        )
        self.is_syncing = self._gauge("is_syncing", "1 while this node catches up.")
        self.sync_current_height = self._gauge("sync_current_height", "While it catches up: where it is.")
        self.sync_highest_height = self._gauge("sync_highest_height", "While it catches up: where its peers are.")
        self.misbehaviour = self._counter(
            "misbehaviour_total", "Messages of peers that were malformed or whose signatures do not hold."
        )
        # The node's processes.
        self.process_resident_bytes = self._gauge(
            "process_resident_memory_bytes", "Memory that a process of this node holds.", "process"
        )
        self.process_cpu_seconds = self._counter(
            "process_cpu_seconds_total", "Processor time that a process of this node has used.", "process"
        )
        self.tasks = self._gauge("tasks", "Tasks of the node's own process, its threads not among them.")
        self.process_open_fds = self._gauge("process_open_fds", "Open files and sockets of a process.", "process")

    def text(self) -> str:
        """Metrics without a value are left out."""
        lines: list[str] = []
        for metric in self._all:
            samples = list(metric.samples())
            if samples:
                lines += [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} {metric.kind}", *samples]
        return "\n".join(lines) + "\n"

    def _counter(self, name: str, meaning: str, label: str = "") -> Metric:
        return self._keep(Metric("counter", _PREFIX + name, meaning, label))

    def _gauge(self, name: str, meaning: str, label: str = "") -> Metric:
        return self._keep(Metric("gauge", _PREFIX + name, meaning, label))

    def _keep(self, metric: Metric) -> Metric:
        self._all.append(metric)
        return metric

    def _histogram(self, name: str, meaning: str, bounds: tuple[float, ...]) -> Histogram:
        histogram = Histogram(_PREFIX + name, meaning, bounds)
        self._all.append(histogram)
        return histogram


_PREFIX: Final = "astralink_"
_ESCAPES: Final = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}


def _labels(label: str, value: str) -> str:
    return f'{{{label}="{value.translate(_ESCAPES)}"}}' if label else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
