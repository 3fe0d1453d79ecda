"""What is counted of connections that came to nothing, and what one hears of them now and then."""

from p2p.turned_away import MAX_GROUPS, Lately, TurnedAway


def test_what_came_since_the_last_report_is_told_with_where_most_came_from() -> None:
    counts = TurnedAway()
    assert counts.lately() == Lately(0, "", 0)
    for group in ("192.0.2.1", "192.0.2.2", "192.0.2.2"):
        counts.note_failed(group)
    counts.note_refused("192.0.2.2")
    assert counts.lately() == Lately(4, "192.0.2.2", 3)
    counts.note_refused("192.0.2.1")
    assert counts.lately() == Lately(1, "192.0.2.1", 1)
    assert counts.lately() == Lately(0, "", 0)
    assert (counts.refused, counts.failed) == (2, 3), "since the start"


def test_addresses_without_end_take_no_memory_without_end() -> None:
    counts = TurnedAway()
    for number in range(2 * MAX_GROUPS):
        counts.note_failed(str(number))
    counts.note_failed("0")
    assert len(counts._groups) == MAX_GROUPS
    assert counts.lately() == Lately(2 * MAX_GROUPS + 1, "0", 2)
