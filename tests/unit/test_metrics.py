"""The text that Prometheus reads: its grammar, its types, and that every name is there once."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from astralink_node.metrics import MAX_LABEL_VALUES, Histogram, Metric, NodeMetrics

SAMPLE = re.compile(r'^(astralink_[a-z0-9_]+)(\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"\})? (-?[0-9.e+-]+)$')


def test_every_line_follows_the_grammar_and_every_family_is_described_once() -> None:
    metrics = NodeMetrics()
    metrics.head_height.set(812)
    metrics.head_age_seconds.set(0.25)
    metrics.consensus_step.set_all({"prevote": 1, "propose": 0})
    metrics.block_interval_seconds.observe(1.0)
    text = metrics.text()
    assert text.endswith("\n")
    lines = text.splitlines()
    for line in lines:
        assert SAMPLE.match(line) or re.match(r"^# (HELP|TYPE) astralink_[a-z0-9_]+ \S", line), line
    described = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    assert "astralink_head_height 812" in lines
    assert "astralink_head_age_seconds 0.25" in lines
    assert 'astralink_consensus_step{step="prevote"} 1' in lines


def test_names_say_what_they_are() -> None:
    metrics = NodeMetrics()
    for metric in metrics._all:
        assert metric.meaning.endswith("."), metric.name
        assert (metric.kind == "counter") == metric.name.endswith("_total"), metric.name


def test_what_is_not_known_is_not_shown_and_counters_begin_at_zero() -> None:
    metrics = NodeMetrics()
    assert "head_height" not in metrics.text()
    assert "astralink_votes_verified_total 0" in metrics.text()
    metrics.head_height.set(5)
    metrics.head_height.set(None)
    assert "head_height" not in metrics.text()
    assert metrics.head_height.value is None


def test_counters_add_up() -> None:
    counter = Metric("counter", "votes_total", "Votes.")
    counter.add()
    counter.add(3)
    assert list(counter.samples()) == ["votes_total 4"]
    assert counter.value == 4


def test_values_of_a_label_are_bounded_and_escaped() -> None:
    gauge = Metric("gauge", "memory", "Memory.", "process")
    for number in range(MAX_LABEL_VALUES + 10):
        gauge.set(number, str(number))
    assert len(list(gauge.samples())) == MAX_LABEL_VALUES
    gauge.set_all({'a"\\\n': 1})
    assert list(gauge.samples()) == ['memory{process="a\\"\\\\\\n"} 1']


def test_a_value_on_a_bound_counts_below_it() -> None:
    histogram = Histogram("seconds", "Time.", (0.5, 1.0))
    for value in (0.5, 0.6, 1.0, 7.0):
        histogram.observe(value)
    assert list(histogram.samples()) == [
        'seconds_bucket{le="0.5"} 1',
        'seconds_bucket{le="1"} 3',
        'seconds_bucket{le="+Inf"} 4',
        "seconds_sum 9.1",
        "seconds_count 4",
    ]


@given(st.lists(st.floats(0, 100)))
def test_buckets_only_grow_and_the_last_holds_all(values: list[float]) -> None:
    histogram = Histogram("seconds", "Time.", (0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    counts = [int(line.rpartition(" ")[2]) for line in histogram.samples() if "_bucket" in line]
    assert counts == sorted(counts)
    assert counts == [sum(value <= bound for value in values) for bound in (0.1, 1.0, 10.0)] + [len(values)]
