"""This node's own validator, as its consensus driver sees it: who signs, who is paid, and whether it may sign yet.

A key whose history is intact signs at once, also after a restart: if it waited, four validators that restart
together would wait for each other. A key whose history was lost first listens for a second node that signs with it,
for a time by the clock and until the chain is caught up, and then signs from two heights above what is certified.
"""

from typing import Final

from astralink_node.log import Log
from astralink_node.services.offload import Offload
from astralink_node.types import Address
from astralink_node.validator.local_signer import Signer
from astralink_node.validator.signing_rules import floor_after_lost_history

DOPPELGANGER_WAIT_MS: Final = 30_000
"""Wall time, never heights: a chain that stands still because of this very wait would never end it."""

_log = Log("validator")


class OwnValidator:
    """See the module's description. `begin` once, then `consider` now and then until `is_signing`."""

    def __init__(self, signer: Signer, fee_recipient: Address, offload: Offload) -> None:
        self.signer = signer
        self.voting_key = signer.public.voting_key
        self.fee_recipient = fee_recipient
        self.is_signing = False
        self._offload = offload
        self._listen_until_ms = 0

    async def begin(self, head_height: int, now_ms: int, *, alone: bool) -> None:
        """`alone`: the key is its set's only member, so nobody else can certify the next height."""
        history = await self._offload(self.signer.history_state)
        if history.is_intact:
            self.is_signing = True
        elif alone:
            await self._set_floor(floor_after_lost_history(head_height, alone=True))
        else:
            self._listen_until_ms = now_ms + DOPPELGANGER_WAIT_MS
            _log.warning(
                "the signing history is new: listening for another node with this key before anything is signed",
                seconds=DOPPELGANGER_WAIT_MS // 1000,
            )

    async def consider(self, head_height: int, now_ms: int, *, is_caught_up: bool) -> None:
        """End the listening, if it is time. Genesis is no certified head: somebody must have made a block."""
        if not self.is_signing and is_caught_up and head_height >= 1 and now_ms >= self._listen_until_ms:
            await self._set_floor(floor_after_lost_history(head_height, alone=False))

    async def _set_floor(self, floor: int) -> None:
        await self._offload(self.signer.set_floor, floor)
        self.is_signing = True
        _log.info("signing begins", height=floor)
