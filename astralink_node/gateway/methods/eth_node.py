"""eth_*: what the chain is configured as, what this node can serve of it, and for whom it builds blocks."""

from __future__ import annotations

from zlib import crc32

from astralink_node.chain.facts_messages import ChainFacts, ForkFacts, NamedPlace
from astralink_node.evm.fee_rules import BLOB_BASE_FEE_UPDATE_FRACTION
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.table import Method
from astralink_node.gateway.rpc_errors import server_error

NO_BLOBS: JsonObject = {"baseFeeUpdateFraction": BLOB_BASE_FEE_UPDATE_FRACTION, "max": 0, "target": 0}


async def config(context: RpcContext) -> Json:
    """EIP-7910."""
    facts = await context.read.chain.facts()
    active = [fork for fork in facts.forks if fork.activation_height <= facts.head_height]
    coming = facts.forks[len(active) :]
    return {
        "current": _fork(context, facts, active[-1]),
        "next": _fork(context, facts, coming[0]) if coming else None,
        "last": _fork(context, facts, coming[-1]) if coming else None,
    }


def _fork(context: RpcContext, facts: ChainFacts, fork: ForkFacts) -> JsonObject:
    return {
        "activationTime": fork.activation_time_s,
        "blobSchedule": NO_BLOBS,
        "chainId": quantity(context.identity.chain_id),
        "forkId": data(fork_id(facts, fork)),
        "precompiles": _places(fork.precompiles),
        "systemContracts": _places(fork.system_contracts),
    }


def fork_id(facts: ChainFacts, fork: ForkFacts) -> bytes:
    """EIP-6122's FORK_HASH over genesis and every later activation up to this fork's; here those are heights."""
    checksum = crc32(facts.genesis_hash)
    for each in facts.forks:
        if 0 < each.activation_height <= fork.activation_height:
            checksum = crc32(each.activation_height.to_bytes(8, "big"), checksum)
    return checksum.to_bytes(4, "big")


def _places(places: tuple[NamedPlace, ...]) -> JsonObject:
    return {place.name: data(place.address) for place in sorted(places, key=lambda place: place.name)}


async def capabilities(context: RpcContext) -> Json:
    """Blocks, their receipts and their logs stay; state is kept for a window, unless this is an archive."""
    facts = await context.read.chain.facts()
    kept: JsonObject = {"disabled": False, "oldestBlock": quantity(facts.oldest_block_height)}
    state: JsonObject = {"disabled": False, "oldestBlock": quantity(facts.oldest_state_height)}
    if facts.state_heights is not None:
        state["deleteStrategy"] = {"type": "window", "retentionBlocks": quantity(facts.state_heights + 1)}
    return {
        "head": {"number": quantity(facts.head_height), "hash": data(facts.head_hash)},
        "state": state,
        "tx": kept,
        "logs": kept,
        "receipts": kept,
        "blocks": kept,
        "stateproofs": state,
    }


async def coinbase(context: RpcContext) -> Json:
    """Where the fees of this node's own blocks go."""
    recipient = (await context.read.node.status()).fee_recipient
    if not recipient:
        raise server_error("etherbase must be explicitly specified")
    return data(recipient)


METHODS = (
    Method(
        "eth_config",
        config,
        note="Forks activate by height: `activationTime` of one to come is the earliest possible, and `forkId` is over "
        "heights; there are no blobs.",
    ),
    Method("eth_capabilities", capabilities),
    Method("eth_coinbase", coinbase, note="An error on a node that does not validate."),
)
