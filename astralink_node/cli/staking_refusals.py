"""What the staking contract's refusals mean to whoever is refused, and what to do. Pure.

The reasons are the contract's own words (contracts/staking); a test compares this list with its source, so that a
reason that comes or goes is noticed.
"""

from typing import Final

from astralink_node.errors import AstraLinkError
from astralink_node.evm.revert_reason import revert_reason

EXIT_REFUSED: Final = 1

_BAD_KEYS: Final = (
    "the files do not hold what `validator key new` and `validator key prove` made: make the proofs again"
)

ADVICE: Final[dict[str, str]] = {
    "staking: registered already": "one account has one validator for ever: use another account for a second one",
    "staking: commission above all": "a commission is at most 100 %",
    "staking: below the least stake": "bring at least minStakeWei (`astralink-node validator status` shows it)",
    "staking: no room for this stake": "256 validators are registered: bring more than the smallest outside the set",
    "staking: key used before": "a key is registered once, ever: make new ones with `astralink-node validator key new`",
    "staking: key length": "the voting key has a wrong length: this is no key that `validator key new` made",
    "staking: no such validator": "no validator has this operator: `astralink-node validator list` names them",
    "staking: not an operator": "this account has registered no validator: `astralink-node validator create`",
    "staking: tombstoned": "this validator signed twice and is out for ever; take your stake out with undelegate",
    "staking: frozen": "a key of this validator signed a header that the chain lacks: its stake stays as it is until "
    "governance has judged it",
    "staking: slashed to nothing": "nothing is left of this validator's stake, so a share has no price",
    "staking: less than one share": "the amount is too small to buy a share",
    "staking: no value": "say how much",
    "staking: no shares": "say how much",
    "staking: more shares than held": "`astralink-node stake list` shows how much is delegated there",
    "staking: shares are liable": "stake that moved from another validator stays liable until the time that "
    "`astralink-node stake list` shows; only the rest can leave",
    "staking: liable already": "an earlier redelegation to this validator is still liable: wait until it ends",
    "staking: the same validator": "source and target are one validator",
    "staking: 32 entries already": "at most 32 amounts can be unbonding: withdraw what is mature first",
    "staking: worth nothing": "these shares are worth less than one wei",
    "staking: no such entry": "`astralink-node stake list` shows what is unbonding, by number",
    "staking: not mature yet": "`astralink-node stake list` shows when it can be withdrawn",
    "staking: slashes left, poke first": "more than 64 slashes wait to be applied: run `astralink-node stake poke`",
    "staking: too great a change": "a commission moves by at most maxCommissionChangeBps at a time",
    "staking: once a day": "the commission was changed less than a day ago",
    "staking: not jailed": "the validator is not jailed: there is nothing to do",
    "staking: jailed for longer": "`astralink-node validator status` shows until when",
    "staking: maintenance length": "announce from one block to maintenanceMaxBlocks",
    "staking: no such height": "the height is out of range",
    "staking: announced too late": "announce it at least a downtime window ahead of its first height",
    "staking: maintenance not over": "the announced maintenance must be over, and judged, before the next one",
    "staking: maintenance too soon": "the next maintenance begins at least ten times its length after the last",
    "staking: once an epoch": "this key was rotated in this epoch already: wait for the next one",
    "staking: there is room": "validators are displaced only when 256 are registered",
    "staking: not on the list": "this validator was displaced before",
    "staking: in the set": "who votes is not displaced",
    "staking: could be elected": "only who cannot be elected is displaced",
    "keys: voting key of 128 bytes": _BAD_KEYS,
    "keys: possession of 256 bytes": _BAD_KEYS,
    "keys: coordinate out of range": _BAD_KEYS,
    "keys: not points of the groups": _BAD_KEYS,
    "keys: the identity": _BAD_KEYS,
    "keys: possession not proven": _BAD_KEYS,
    "keys: checkpoint key length": _BAD_KEYS,
    "keys: checkpoint proof length": _BAD_KEYS,
    "keys: checkpoint key unproven": "the proof is for another operator, another chain or another key: make it again",
}
"""Every reason that a holder or an operator can meet -> what to do."""


class Refused(AstraLinkError):
    """The contract refuses, with its reason and what to do about it."""

    exit_code = EXIT_REFUSED

    def __init__(self, purpose: str, output: bytes, when: str = "") -> None:
        self.reason = reason_of(output)
        self.advice = ADVICE.get(self.reason, "")
        told = f"{self.reason}: {self.advice}" if self.advice else self.reason
        super().__init__(f"{purpose} is refused{when}: {told}")


def reason_of(output: bytes) -> str:
    """The contract's words, or the bytes if they are none."""
    reason = revert_reason(output)
    if reason:
        return reason
    return f"the contract gave no reason (0x{output[:36].hex()})" if output else "the contract gave no reason"
