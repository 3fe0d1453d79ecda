"""A validator whose signer is broken on purpose: `python -m tests.support.two_faced_validator start ...`.

It runs as any node does, except that, once there is a file `two-faced` in its data folder, it signs one for nil beside
each precommit for a block, past its signing history, and sends both to everybody.
"""

import sys
from dataclasses import replace
from pathlib import Path

from astralink_node.cli.main import run
from astralink_node.crypto import bls
from astralink_node.services.height_run import HeightRun
from astralink_node.validator.local_signer import LocalSigner
from consensus.gossip import VotesGossip
from consensus.height_machine import Input, SignProposal, SignVote, VoteReceived
from consensus.messages import NIL, VoteType, signing_root

TRIGGER = "two-faced"
_sign_once = HeightRun._sign


def _lies() -> bool:
    return (Path(sys.argv[sys.argv.index("--data-dir") + 1]) / TRIGGER).exists()


async def _sign_twice(self: HeightRun, wanted: SignVote | SignProposal) -> Input | None:
    made = await _sign_once(self, wanted)
    if not isinstance(made, VoteReceived) or not _lies():
        return made
    if made.vote.vote_type is VoteType.PRECOMMIT and made.vote.block_hash != NIL:
        assert self._around.own is not None
        signer = self._around.own.signer
        assert isinstance(signer, LocalSigner)
        other = replace(made.vote, block_hash=NIL)
        root = signing_root(other.sign_bytes(signer._genesis_hash))
        lie = replace(other, signature=bls.sign(signer._keys.voting_secret, root))
        self._around.peers.tell(VotesGossip((lie,)))
    return made


if __name__ == "__main__":
    HeightRun._sign = _sign_twice  # type: ignore[method-assign]
    run()
