"""Whether a snapshot's block may be believed: the trusting period, `--trust`, and the light client's way to the block.

Skipping verification begins at the newest header that the node knows, genesis at first, or at the block that the
operator names. A header older than the trusting period is no beginning: whoever signed after it may have left with
its stake, and sign another chain unpunished (a long-range fork). Then only the operator can say which chain it is.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from astralink_node.chain.messages import Status
from astralink_node.chain.snapshot_manifest import Ancestor, CheckedManifest, Manifest
from astralink_node.clock import NowMs
from astralink_node.errors import UserError
from astralink_node.evm.blocks import decode_header, encode_header
from astralink_node.light_client import (
    LightBlock,
    LightBlockRefused,
    LightClient,
    PayloadProof,
    Trusted,
    trust_by_hash,
)
from consensus.light_verification import SignedHeader, next_height_to_try, trusting_period_ms
from consensus.params import MAX_HEIGHT, ConsensusParams
from consensus.sync_wire import LightBlockReply
from consensus.validator_set import decode_validator_set

MAX_STEPS: Final = 256
"""Light blocks that are looked at on the way to one block; bisection over any number of elections takes fewer."""

_STEPS_HELP: Final = ("trust_level", "possession")
"""What an adjacent header need not have: the set before it has voted on the set that signs it."""

FetchLightBlock = Callable[[int], Awaitable[LightBlock]]


class TrustNeeded(UserError):
    """What the node knows of its chain is too old to begin from."""

    def __init__(self, height: int, age_ms: int, period_ms: int) -> None:
        what = "genesis is" if height == 0 else f"the newest block that this node knows, {height}, is"
        super().__init__(
            f"{what} {_words(age_ms)} old, more than the trusting period of {_words(period_ms)}: validators who have "
            "left since could show this node another chain. Ask someone you trust for a recent block of this chain, "
            "and start with --trust HEIGHT:HASH"
        )
        self.height = height
        self.age_ms = age_ms
        self.period_ms = period_ms


class MalformedTrust(UserError):
    """The argument of --trust is no height and hash."""


@dataclass(frozen=True, slots=True)
class TrustedBlock:
    """As the operator named it."""

    height: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class JoiningRules:
    """What the chain and the operator say about catching up."""

    params: ConsensusParams
    epoch_length: int
    trusted: TrustedBlock | None = None


def parse_trust(text: str) -> TrustedBlock:
    """`HEIGHT:HASH`, the hash in 64 hex digits with or without 0x. Raises MalformedTrust."""
    height, colon, block_hash = text.partition(":")
    digits = block_hash.removeprefix("0x")
    try:
        trusted = TrustedBlock(int(height), bytes.fromhex(digits))
    except ValueError as error:
        raise MalformedTrust(f"--trust: expected HEIGHT:HASH, found {text!r}") from error
    if not colon or not height.isdecimal() or not 1 <= trusted.height <= MAX_HEIGHT or len(digits) != 64:
        raise MalformedTrust(f"--trust: expected a height from 1 on and a hash of 32 bytes, found {text!r}")
    return trusted


def check_trusting_period(known_height: int, known_time_ms: int, now_ms: int, params: ConsensusParams) -> None:
    """Raises TrustNeeded if the newest header known is too old to verify others from. Also before syncing blocks."""
    age_ms, period_ms = now_ms - known_time_ms, trusting_period_ms(params)
    if age_ms >= period_ms:
        raise TrustNeeded(known_height, age_ms, period_ms)


def check_beginning(status: Status, rules: JoiningRules, now_ms: int) -> None:
    """Raises TrustNeeded unless blocks after the node's head may be believed by its sets, or the operator's block lies
    above it."""
    if rules.trusted is None or rules.trusted.height <= status.head_height:
        check_trusting_period(status.head_height, status.head_time_ms, now_ms, rules.params)


def trust_of_head(status: Status) -> Trusted:
    """The light client's beginning at the node's own head."""
    voting_set = decode_validator_set(status.voting_set)
    header = decode_header(status.head_raw_header)
    # The set that voted on the head plays no part in what follows it, nor does the head's certificate.
    signed = SignedHeader(
        height=status.head_height,
        time_ms=status.head_time_ms,
        block_hash=status.head_hash,
        parent_hash=header.parent_hash,
        voting_set_hash=voting_set.hash,
        next_set_hash=voting_set.hash,
        certificate=None,
    )
    return Trusted(signed, voting_set)


async def begin_trust(
    status: Status,
    trusted: TrustedBlock | None,
    params: ConsensusParams,
    now_ms: NowMs,
    fetch: FetchLightBlock,
) -> LightClient:
    """A light client that believes the operator's block, or the node's own head.

    Raises TrustNeeded, LightBlockRefused if whoever was asked gave something else, and what `fetch` raises.
    """
    if trusted is None:
        beginning = trust_of_head(status)
    else:
        beginning = trust_by_hash(await fetch(trusted.height), trusted.block_hash, status.genesis_hash)
    check_trusting_period(beginning.header.height, beginning.header.time_ms, now_ms(), params)
    return LightClient(status.genesis_hash, beginning, params, now_ms)


async def believe(client: LightClient, light_block: LightBlock, fetch: FetchLightBlock) -> None:
    """Bring the client to believe a higher block, over others in between where sets changed too much, or by members
    whose proof of possession nobody brings.

    Raises LightBlockRefused or ForkDetected, and what `fetch` raises.
    """
    waiting = [light_block]
    for _ in range(MAX_STEPS):
        try:
            client.update(waiting[-1])
        except LightBlockRefused as refused:
            if refused.rule not in _STEPS_HELP:
                raise
            height = next_height_to_try(client.trusted.header.height, decode_header(waiting[-1].raw_header).number)
            waiting.append(await fetch(height))
            continue
        waiting.pop()
        if not waiting:
            return
    raise LightBlockRefused("steps", f"at most {MAX_STEPS} light blocks on the way", "more")


async def believe_manifest(
    client: LightClient, manifest: Manifest, checked: CheckedManifest, fetch: FetchLightBlock
) -> Manifest:
    """The manifest without those ancestors that nobody can vouch for: below where trust begins, and not linked.

    Raises what `believe` raises: then its block, or an ancestor above the beginning, is not to be believed.
    """
    kept: list[Ancestor] = []
    for ancestor in checked.ancestors:
        if ancestor.header.number > client.trusted.header.height and not ancestor.is_linked:
            await believe(client, _light_block_of(ancestor.parts), fetch)
            kept.append(ancestor.parts)
        elif ancestor.is_linked:
            kept.append(ancestor.parts)
    header = checked.header
    block = Ancestor(
        raw_header=encode_header(header),
        raw_payload=checked.sealed.raw_payload,
        certificate=manifest.certificate,
        voting_set=manifest.voting_set,
        next_set=manifest.next_set,
    )
    believed = client.header_at(header.number)
    if believed is None:
        await believe(client, _light_block_of(block), fetch)
    elif believed.block_hash != header.hash:
        raise LightBlockRefused("trusted_hash", believed.block_hash.hex(), header.hash.hex())
    return replace(manifest, ancestors=tuple(kept))


def _light_block_of(parts: Ancestor) -> LightBlock:
    next_set = b"" if parts.next_set == parts.voting_set else parts.next_set
    return LightBlock(parts.raw_header, parts.raw_payload, parts.certificate, parts.voting_set, next_set)


def light_block_of(reply: LightBlockReply) -> LightBlock:
    """From the wire; nothing in it is believed."""
    proof = PayloadProof(reply.time_ms, reply.voting_set_hash, reply.next_set_hash, reply.branches)
    return LightBlock(reply.raw_header, proof, reply.certificate, reply.voting_set, reply.next_set, reply.possessions)


def _words(length_ms: int) -> str:
    for unit, unit_ms in (("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if length_ms >= 2 * unit_ms:
            return f"{length_ms // unit_ms} {unit}"
    return f"{length_ms // 1000} seconds"
