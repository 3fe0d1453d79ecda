"""Evidence of either form joined to BLS and to what a header's RLP says; whose word on the chain's past counts is the
caller's: the state's for a block, this node's own database for gossip.
"""

from collections.abc import Callable

from astralink_node.crypto import bls
from astralink_node.evm.blocks import MalformedBlock, decode_header
from consensus.evidence import Evidence, EvidenceError, verify_evidence
from consensus.evidence_forms import AnyEvidence
from consensus.forged_header import ForgedHeader, HeaderLink, verify_forged_header
from consensus.validator_set import ValidatorSet

BlockHashAt = Callable[[int], bytes]
"""Height -> hash of the chain's own block; zeros if it is not known."""


def verify_any_evidence(
    evidence: AnyEvidence, validator_set: ValidatorSet, genesis_hash: bytes, block_hash_at: BlockHashAt
) -> tuple[int, ...]:
    """Ascending indices in `validator_set`, which votes at the evidence's height. Raises `EvidenceError`."""
    match evidence:
        case Evidence():
            return verify_evidence(evidence, validator_set, genesis_hash, bls.fast_aggregate_verify)
        case ForgedHeader():
            return verify_forged_header(
                evidence,
                read_link(evidence.raw_header),
                block_hash_at(evidence.height - 1),
                validator_set,
                genesis_hash,
                bls.fast_aggregate_verify,
            )


def read_link(raw_header: bytes) -> HeaderLink:
    """Raises `EvidenceError` for what is no header."""
    try:
        header = decode_header(raw_header)
    except MalformedBlock as error:
        raise EvidenceError("header", error.expected, error.found) from error
    return HeaderLink(header.number, header.parent_hash, header.hash)
