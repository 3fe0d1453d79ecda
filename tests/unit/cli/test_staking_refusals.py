"""Refusals are explained, and the list of reasons is the contract's own."""

from __future__ import annotations

import re
from pathlib import Path

import eth_abi

from astralink_node.cli.staking_refusals import ADVICE, Refused, reason_of
from astralink_node.evm.revert_reason import ERROR_SELECTOR

SOURCES = Path(__file__).parents[3] / "contracts" / "staking"
FOR_THE_PROTOCOL = {
    "staking: initialised already",
    "staking: outside its bounds",
    "staking: epoch begun already",
    "staking: a bitmap a height",
    "staking: credited above total",
    "staking: a power an operator",
    "staking: jailed enough",
    "staking: not the next epoch",
    "staking: elected already",
    "staking: no such epoch",
    "staking: elected twice",
    "staking: too many members",
    "staking: nobody is elected",
    "staking: power out of range",
    "staking: only governance",
    "staking: no such parameter",
    "staking: fixed",
    "staking: only the protocol",
    "staking: no such slash",
    "staking: acquitted",
    "staking: not frozen",
}
"""Met by system calls, governance and views alone."""


def reasons(*files: str) -> set[str]:
    text = "".join((SOURCES / file).read_text() for file in files)
    return set(re.findall(r'"((?:staking|keys): [^"]+)"', text))


def encoded(reason: str) -> bytes:
    return ERROR_SELECTOR + eth_abi.encode(["string"], [reason])


def test_every_reason_of_the_contracts_is_explained_and_no_other() -> None:
    found = reasons("Staking.vy", "StakingState.vy", "StakingAnnex.vy", "KeyProofs.vy")
    assert len(found) > 40
    assert sorted(found - FOR_THE_PROTOCOL) == sorted(ADVICE)


def test_a_refusal_says_what_was_tried_why_not_and_what_to_do() -> None:
    refused = Refused("withdrawing entry 0", encoded("staking: not mature yet"))
    assert str(refused) == (
        "withdrawing entry 0 is refused: staking: not mature yet: "
        "`astralink-node stake list` shows when it can be withdrawn"
    )


def test_an_unknown_reason_is_shown_as_it_is() -> None:
    assert reason_of(encoded("other: words")) == "other: words"
    assert str(Refused("it", encoded("other: words"), " in block 7")) == "it is refused in block 7: other: words"
    assert reason_of(b"") == "the contract gave no reason"
    assert reason_of(b"\x01\x02\x03\x04\x05") == "the contract gave no reason (0x0102030405)"
