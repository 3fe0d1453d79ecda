"""Where a registered validator stands, and the power that an election on the same state would give it."""

from __future__ import annotations

from typing import Any

from astralink_node.gateway.reading.staking import ValidatorView
from astralink_node.gateway.reading.staking_status import Standing, powers_if_elected, standing_of

BWT = 10**18
LEAST = 32 * BWT


def validator(number: int = 1, tokens: int = 40 * BWT, **changes: Any) -> ValidatorView:
    fields: dict[str, Any] = {
        "operator": bytes([number]) * 20,
        "voting_key": bytes([number]) * 48,
        "checkpoint_key_hash": bytes([number]) * 32,
        "name": "",
        "tokens_wei": tokens,
        "shares": tokens,
        "commission_bps": 0,
        "commission_wei": 0,
        "is_active": False,
        "is_jailed": False,
        "is_tombstoned": False,
        "jailed_until": 0,
        "missed": 0,
        "power": 0,
        "registered_height": 0,
        "maintenance_from": 0,
        "maintenance_until": 0,
        "slash_count": 0,
    }
    return ValidatorView(**(fields | changes))


def test_the_first_standing_that_fits_is_told() -> None:
    everything = {"is_tombstoned": True, "is_jailed": True, "is_active": True}
    assert standing_of(validator(**everything), LEAST) is Standing.TOMBSTONED
    assert standing_of(validator(**everything | {"is_tombstoned": False}), LEAST) is Standing.JAILED
    assert standing_of(validator(is_active=True, tokens=1), LEAST) is Standing.ACTIVE
    assert standing_of(validator(tokens=LEAST - 1), LEAST) is Standing.BELOW_MINIMUM
    assert standing_of(validator(tokens=LEAST), LEAST) is Standing.WAITING


def test_only_candidates_have_a_power_and_only_as_many_as_there_are_seats() -> None:
    everybody = [
        validator(1, 40 * BWT),
        validator(2, 50 * BWT + 1),
        validator(3, 60 * BWT, is_jailed=True),
        validator(4, 60 * BWT, is_tombstoned=True),
        validator(5, LEAST - 1),
        validator(6, LEAST),
    ]
    assert powers_if_elected(everybody, LEAST, 2) == {b"\x02" * 20: 50, b"\x01" * 20: 40}
    assert powers_if_elected(everybody, LEAST, 64)[b"\x06" * 20] == 32
    assert powers_if_elected([], LEAST, 2) == {}
