"""This node's own validator, as its consensus driver sees it: who signs, who is paid, and whether it may sign yet.

A key whose history is intact signs at once, also after a restart: if it waited, four validators that restart
together would wait for each other. A key whose history was lost first listens for a second node that signs with it,
for a time by the clock and until the chain is caught up, and then signs from two heights above what is certified.
"""

from collections.abc import Iterator
from typing import Final

import trio

from astralink_node.log import Log
from astralink_node.services.offload import Offload
from astralink_node.types import Address
from astralink_node.validator.local_signer import RefusedToSign, Signer, SignerUnavailable
from astralink_node.validator.signing_rules import floor_after_lost_history
from consensus.messages import ProposalMessage, VoteMessage
from consensus.validator_set import ValidatorSet

DOPPELGANGER_WAIT_MS: Final = 30_000
"""Time, never heights: a chain that stands still because of this very wait would never end it. By the clock that
nobody sets: a wall clock that is put right just after the start would end it at once."""

_log = Log("validator")


class OwnValidator:
    """See the module's description. `begin` once, then `consider` now and then until `is_signing`."""

    def __init__(self, signer: Signer, fee_recipient: Address, offload: Offload) -> None:
        self.signer = signer
        self.voting_key = signer.public.voting_key
        self.fee_recipient = fee_recipient
        self.is_signing = False
        self._offload = offload
        self._listen_until_s = 0.0
        self._foreign_from: int | None = None
        """With a lost history: the height from which on our key cannot have signed before the loss."""

    async def begin(self, head_height: int, *, alone: bool) -> None:
        """`alone`: the key is its set's only member, so nobody else can certify the next height. Raises the signer's
        errors: a start that cannot reach it fails."""
        history = await self._offload(self.signer.history_state)
        if history.is_intact:
            self.is_signing = True
        elif alone:
            await self._set_floor(floor_after_lost_history(head_height, alone=True))
        else:
            self._listen_until_s = trio.current_time() + DOPPELGANGER_WAIT_MS / 1000
            _log.warning(
                "the signing history is new: listening for another node with this key before anything is signed",
                seconds=DOPPELGANGER_WAIT_MS // 1000,
            )

    async def consider(self, head_height: int, *, is_caught_up: bool) -> None:
        """End the listening, if it is time. Genesis is no certified head: somebody must have made a block.

        Whether others are further is their word: a liar keeps a validator with a lost history silent for as long as
        it goes on lying, which costs rewards; not to believe it could cost the stake.
        """
        if self.is_signing or head_height < 1:
            return
        if not is_caught_up:
            if trio.current_time() >= self._listen_until_s:
                _log.warning("not signing yet: a peer says that it is ahead of this node", head=head_height)
            return
        floor = floor_after_lost_history(head_height, alone=False)
        if self._foreign_from is None:
            self._foreign_from = floor
        if trio.current_time() >= self._listen_until_s:
            try:
                await self._set_floor(floor)
            except (RefusedToSign, SignerUnavailable) as error:
                _log.error("not signing yet: the signer takes no floor; it will be asked again", why=str(error))

    async def signed_elsewhere(self, message: ProposalMessage | VoteMessage) -> bool:
        """Whether another node signed this with our key; False where nobody can tell."""
        if not self.is_signing and (self._foreign_from is None or message.height < self._foreign_from):
            return False  # it may be our own, from before the history was lost: anybody may have kept it
        try:
            return await self._offload(self.signer.is_foreign, message)
        except SignerUnavailable as error:
            _log.error("the signer cannot be asked whether it signed this", height=message.height, why=str(error))
            return False

    async def _set_floor(self, floor: int) -> None:
        await self._offload(self.signer.set_floor, floor)
        self.is_signing = True
        _log.info("signing begins", height=floor)


class OwnKeys:
    """All the keys of one validator that this node holds: the present ones, and while they are rotated the next."""

    def __init__(self, *keys: OwnValidator | None) -> None:
        self._keys = tuple(one for one in keys if one is not None)
        self._missing: bytes | None = None

    def __iter__(self) -> Iterator[OwnValidator]:
        return iter(self._keys)

    def seated(self, voters: ValidatorSet) -> OwnValidator | None:
        """Those that stand in the set; where none do, the present ones."""
        seated = (one for one in self._keys if voters.index_of(one.voting_key) is not None)
        return next(seated, self._keys[0] if self._keys else None)

    def of_checkpoint(self, voters: ValidatorSet) -> tuple[OwnValidator | None, int]:
        """Those whose checkpoint key our member of that set registered, and the member's index."""
        for keys in self._keys:
            index = voters.index_of(keys.voting_key)
            if index is not None:
                wanted = voters.validators[index].ml_dsa_key_hash
                signing = (one for one in self._keys if one.signer.public.checkpoint_key_hash == wanted)
                return next(signing, None), index
        return None, 0

    def warn_of_a_missing_one(self, voters: ValidatorSet) -> None:
        """Once for each: a rotation that this node knows nothing of would cost the stake in silence."""
        missing = self.missing(voters)
        if missing is not None and missing != self._missing:
            _log.warning(
                "this validator is about to vote with a key that this node does not have, and will be absent: if "
                "`validator rotate-key` made it here, start the node again",
                key=f"0x{missing.hex()[:16]}",
            )
        self._missing = missing

    def missing(self, voters: ValidatorSet) -> bytes | None:
        """The key with which our operator stands in that set, if it is none of ours."""
        held = {one.voting_key for one in self._keys}
        operators = {one.signer.public.operator for one in self._keys}
        found = (member.voting_key for member in voters.validators if member.operator in operators)
        return next((key for key in found if key not in held), None)
