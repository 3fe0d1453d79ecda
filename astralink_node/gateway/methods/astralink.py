"""astralink_*: what this chain has beside Ethereum's interface: consensus, who takes part in it, fee parameters."""

from __future__ import annotations

from astralink_node.chain.messages import BlockSelector
from astralink_node.clock import now_ms
from astralink_node.evm.fee_rules import InvalidFeeParameters, decode_fee_parameters
from astralink_node.gateway.context import RpcContext
from astralink_node.gateway.encoding import JsonObject, data, quantity
from astralink_node.gateway.jsonrpc import Json
from astralink_node.gateway.link_messages import VotesFor
from astralink_node.gateway.methods.arguments import BLOCK
from astralink_node.gateway.methods.astralink_staking import registered_validators
from astralink_node.gateway.methods.table import Method, Parameter, Specification
from astralink_node.gateway.parameters import byte_string, epoch
from astralink_node.gateway.rpc_errors import server_error
from astralink_node.gateway.stall import MissingValidator, away_validators, explain, missing_validators
from consensus.certificate import Certificate, signer_indices
from consensus.checkpoint import checkpoint_hash, decode_checkpoint
from consensus.epoch import epoch_of
from consensus.messages import NIL
from consensus.payload import decode_payload
from consensus.validator_set import decode_validator_set

EVIDENCE = Parameter("evidence", byte_string)
EPOCH = Parameter("epoch", epoch, None)
"""None is the latest."""


async def get_node_status(context: RpcContext) -> Json:
    status = await context.read.node.status()
    head = context.read.blocks.head
    return {
        "clientVersion": status.client_version,
        "chainId": quantity(status.chain_id),
        "genesisHash": data(status.genesis_hash),
        "headNumber": quantity(head.height),
        "headHash": data(head.view.block_hash),
        "headTimestamp": quantity(head.view.header.timestamp),
        "nextBaseFeePerGas": quantity(head.next_base_fee_wei),
        "nextGasLimit": quantity(head.next_gas_limit),
        "peerCount": quantity(len((await context.read.node.network()).peers)),
        "isValidator": status.is_validator,
        "blockIntervalMs": quantity(status.block_interval_ms),
        "pendingTransactions": quantity(status.pending_transactions),
        "queuedTransactions": quantity(status.queued_transactions),
        "makesEmptyBlocks": status.makes_empty_blocks,
    }


async def get_genesis_hash(context: RpcContext) -> Json:
    return data(context.identity.genesis_hash)


async def get_payload(context: RpcContext, at: BlockSelector) -> Json:
    """A block's consensus payload; its Merkle root is the block's parentBeaconBlockRoot."""
    view = await context.read.blocks.block(at)
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
    certificate = await context.read.blocks.certificate(at)
    return None if certificate is None else certificate_fields(certificate)


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
    view = await context.read.blocks.block(at)
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


async def get_checkpoint(context: RpcContext, epoch: int | None) -> Json:
    """The quantum-safe checkpoint that a block carries for an epoch, or the latest one. Null if none does."""
    answer = await context.read.blocks.checkpoint(epoch)
    if answer is None:
        return None
    checkpoint = decode_checkpoint(answer.raw_checkpoint)
    signers = zip(signer_indices(checkpoint.signers), checkpoint.keys, checkpoint.signatures, strict=True)
    return {
        "epoch": quantity(checkpoint.epoch),
        "number": quantity(checkpoint.height),
        "blockHash": data(checkpoint.block_hash),
        "nextSetHash": data(checkpoint.next_set_hash),
        "signersBitmap": data(checkpoint.signers),
        "signatures": [
            {"index": quantity(index), "key": data(key), "signature": data(signature)}
            for index, key, signature in signers
        ],
        "checkpointHash": data(checkpoint_hash(answer.raw_checkpoint)),
        "carriedBy": quantity(answer.height),
        "raw": data(answer.raw_checkpoint),
    }


async def get_validators(context: RpcContext, at: BlockSelector) -> Json:
    """The set that votes at a block; at pending, the one that decides the next. Null for a block that is not there."""
    answer = await context.read.blocks.validators(at)
    if answer is None:
        return None
    voting_set = decode_validator_set(answer.voting_set)
    return {
        "number": quantity(answer.height),
        "epoch": quantity(epoch_of(answer.height, answer.epoch_length)),
        "setHash": data(voting_set.hash),
        "totalPower": quantity(voting_set.total_power),
        "aggregateKey": data(voting_set.aggregate_key),
        "memberRoot": data(voting_set.member_root),
        "validators": [
            {
                "index": quantity(index),
                "votingKey": data(validator.voting_key),
                "checkpointKeyHash": data(validator.ml_dsa_key_hash),
                "power": quantity(validator.power),
                "operator": data(validator.operator),
            }
            for index, validator in enumerate(voting_set.validators)
        ],
        "nextSetHash": data(answer.next_set_hash),
        "registered": await registered_validators(context, at),
    }


async def consensus_state(context: RpcContext) -> Json:
    """The round that the node is in, as it sees it now. Null for a node that shows none."""
    state = await context.read.node.consensus_state()
    if state is None:
        return None
    network = await context.read.node.network()
    return {
        "number": quantity(state.height),
        "round": quantity(state.round_),
        "step": state.step,
        "proposerIndex": quantity(state.proposer_index),
        "lockedRound": state.locked_round,
        "lockedHash": data(state.locked_hash) if state.locked_hash else None,
        "validRound": state.valid_round,
        "validHash": data(state.valid_hash) if state.valid_hash else None,
        "totalPower": quantity(state.total_power),
        "rounds": [
            {
                "round": quantity(votes.round_),
                "proposerIndex": quantity(votes.proposer_index),
                "prevotes": [_votes_fields(each) for each in votes.prevotes],
                "precommits": [_votes_fields(each) for each in votes.precommits],
            }
            for votes in state.rounds
        ],
        "waitingSinceMs": quantity(state.waiting_since_ms),
        "isValidator": state.is_validator,
        "isSigning": state.is_signing,
        "missing": [_missing_fields(missing) for missing in missing_validators(state, network)],
        "away": [_missing_fields(away) for away in away_validators(state, network)],
        "explanation": explain(state, network, now_ms()),
    }


async def submit_evidence(context: RpcContext, encoded: bytes) -> Json:
    """Hand in what proves validators guilty: form 1 a contradiction, form 2 a forged header. Its hash, once the node
    has looked into it, holds it for a block and passes it on."""
    return data(await context.read.node.submit_evidence(encoded))


def _missing_fields(missing: MissingValidator) -> JsonObject:
    return {
        "index": quantity(missing.index),
        "votingKey": data(missing.voting_key),
        "operator": data(missing.operator),
        "isSelf": missing.is_self,
        "isConnected": missing.is_connected,
        "lastVote": missing.last_vote or None,
        "lastVoteNumber": None if missing.last_height < 0 else quantity(missing.last_height),
    }


def _votes_fields(votes: VotesFor) -> JsonObject:
    return {
        "blockHash": None if votes.block_hash == NIL else data(votes.block_hash),
        "power": quantity(votes.power),
        "voters": [quantity(index) for index in signer_indices(votes.voters)],
        "votersBitmap": data(votes.voters),
    }


METHODS = (
    Method("astralink_nodeStatus", get_node_status, source=Specification.ASTRALINK),
    Method("astralink_getGenesisHash", get_genesis_hash, source=Specification.ASTRALINK),
    Method("astralink_getPayload", get_payload, (BLOCK,), source=Specification.ASTRALINK),
    Method("astralink_getCertificate", get_certificate, (BLOCK,), source=Specification.ASTRALINK),
    Method("astralink_getCheckpoint", get_checkpoint, (EPOCH,), source=Specification.ASTRALINK),
    Method("astralink_getValidators", get_validators, (BLOCK,), source=Specification.ASTRALINK),
    Method(
        "astralink_submitEvidence",
        submit_evidence,
        (Parameter("evidence", byte_string),),
        source=Specification.ASTRALINK,
    ),
    Method("astralink_consensusState", consensus_state, source=Specification.ASTRALINK),
    Method("astralink_getFeeParameters", get_fee_parameters, (BLOCK,), source=Specification.ASTRALINK),
)
