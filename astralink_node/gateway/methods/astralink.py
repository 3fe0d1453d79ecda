"""astralink_*: what this chain has beside Ethereum's interface: consensus payloads, certificates, fee parameters."""

from __future__ import annotations

from astralink_node.chain.messages import AtHash, AtHeight, AtLatest, BlockSelector, GetStatus, Status
from astralink_node.evm.fee_rules import InvalidFeeParameters, decode_fee_parameters
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.methods.net import node_status
from astralink_node.gateway.methods.table import Method, Parameter
from astralink_node.gateway.parameters import block
from astralink_node.gateway.rpc_errors import server_error
from consensus.certificate import Certificate, decode_certificate, signer_indices
from consensus.payload import decode_payload

BLOCK = Parameter("block", block, AtLatest())


async def get_node_status(context: RpcContext) -> Json:
    status = await node_status(context)
    head = context.chain.heads.head
    return {
        "clientVersion": status.client_version,
        "chainId": quantity(status.chain_id),
        "genesisHash": data(status.genesis_hash),
        "headNumber": quantity(head.height),
        "headHash": data(head.view.block_hash),
        "headTimestamp": quantity(head.view.header.timestamp),
        "nextBaseFeePerGas": quantity(head.next_base_fee_wei),
        "nextGasLimit": quantity(head.next_gas_limit),
        "peerCount": quantity(status.peer_count),
        "isValidator": status.is_validator,
        "blockIntervalMs": quantity(status.block_interval_ms),
        "pendingTransactions": quantity(status.pending_transactions),
        "queuedTransactions": quantity(status.queued_transactions),
    }


async def get_genesis_hash(context: RpcContext) -> Json:
    return data(context.identity.genesis_hash)


async def get_payload(context: RpcContext, at: BlockSelector) -> Json:
    """A block's consensus payload; its Merkle root is the block's parentBeaconBlockRoot."""
    view = await context.chain.block(at)
    if view is None:
        return None
    payload = decode_payload(view.record.raw_payload)
    parent = payload.parent_certificate
    return {
        "blockHash": data(view.block_hash),
        "version": data(payload.version),
        "genesisHash": data(payload.genesis_hash),
        "number": quantity(payload.height),
        "timeMs": quantity(payload.time_ms),
        "buildRound": quantity(payload.build_round),
        "proposerIndex": quantity(payload.proposer_index),
        "prioritiesHash": data(payload.priorities_hash),
        "reveal": data(payload.reveal),
        "parentCertificate": None if parent is None else certificate_fields(parent),
        "lateCredits": [certificate_fields(credit) for credit in payload.late_credits],
        "votingSetHash": data(payload.voting_set_hash),
        "nextSetHash": data(payload.next_set_hash),
        "evidence": [data(item) for item in payload.evidence],
        "epoch": quantity(payload.epoch),
        "checkpoint": data(payload.checkpoint),
        "checkpointHash": data(payload.checkpoint_hash),
        "outboxRoot": data(payload.outbox_root),
        "raw": data(view.record.raw_payload),
    }


async def get_certificate(context: RpcContext, at: BlockSelector) -> Json:
    """The commit certificate of a block: its child's record of it, or at the head this node's own. Null for genesis."""
    view = await context.chain.block(at)
    if view is None or view.height == 0:
        return None
    child = await context.chain.block(AtHeight(view.height + 1))
    if child is not None:
        parent = decode_payload(child.record.raw_payload).parent_certificate
        return None if parent is None else certificate_fields(parent)
    status = await context.chain.ask(AtLatest(), GetStatus(), Status)
    if status.head_hash == view.block_hash and status.head_certificate:
        return certificate_fields(decode_certificate(status.head_certificate))
    # The chain moved on between the questions: now there is a child.
    await context.chain.heads.reach(view.height + 1)
    return await get_certificate(context, AtHash(view.block_hash))


def certificate_fields(certificate: Certificate) -> JsonObject:
    return {
        "voteType": certificate.vote_type.name.lower(),
        "number": quantity(certificate.height),
        "round": quantity(certificate.round_),
        "validRound": certificate.valid_round,
        "blockHash": data(certificate.block_hash),
        "signers": [quantity(index) for index in signer_indices(certificate.signers)],
        "signersBitmap": data(certificate.signers),
        "signature": data(certificate.signature),
    }


async def get_fee_parameters(context: RpcContext, at: BlockSelector) -> Json:
    """The fee parameters in a block's extraData; they govern the block after it."""
    view = await context.chain.block(at)
    if view is None:
        return None
    try:
        parameters = decode_fee_parameters(view.header.extra_data)
    except InvalidFeeParameters as error:
        raise server_error(f"block {view.height} carries no fee parameters: {error}") from error
    return {
        "number": quantity(view.height),
        "gasTarget": quantity(parameters.gas_target),
        "gasLimit": quantity(parameters.gas_limit),
        "baseFeeStepIndex": quantity(parameters.base_fee_step_index),
        "baseFeeDenominator": quantity(parameters.base_fee_denominator),
        "minBaseFeePerGas": quantity(parameters.min_base_fee_wei),
    }


METHODS = (
    Method("astralink_nodeStatus", get_node_status),
    Method("astralink_getGenesisHash", get_genesis_hash),
    Method("astralink_getPayload", get_payload, (BLOCK,)),
    Method("astralink_getCertificate", get_certificate, (BLOCK,)),
    Method("astralink_getFeeParameters", get_fee_parameters, (BLOCK,)),
)
