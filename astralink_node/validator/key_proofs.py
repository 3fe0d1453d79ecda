"""Proofs that a validator's keys are its operator's own, as registration on the chain asks for them (docs/staking.md).

A proof is no vote: it is made from the keys themselves, by whoever has their password, once and before they serve. A
running signer, local or remote, never makes one, so nobody who reaches it can register its keys elsewhere. Both
messages have domains of their own and are fixed here; no function signs what a caller chooses.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from astralink_node.crypto import bls, ml_dsa
from astralink_node.crypto.keccak import keccak256
from astralink_node.crypto.keystore_envelope import hex_field, integer_field
from astralink_node.errors import UserError
from astralink_node.types import Address, Hash32
from astralink_node.validator.keys import PublicKeys, ValidatorKeys

KEY_PROOF_TAG = b"ALNK:keyproof/v1"


class BadKeyProof(UserError):
    """Proofs that do not prove these keys, or are for another operator or chain."""


@dataclass(frozen=True, slots=True)
class KeyProofs:
    """Public: both keys, and for one operator on one chain that their holder agrees."""

    chain_id: int
    operator: Address
    voting_key: bytes
    """48 bytes: compressed BLS12-381 G1."""
    possession: bytes
    """96 bytes: the suite's own proof over the compressed key."""
    checkpoint_key: bytes
    """1,952 bytes: ML-DSA-65."""
    checkpoint_possession: bytes
    """3,309 bytes, over :func:`checkpoint_key_message`."""


def checkpoint_key_message(chain_id: int, operator: Address, checkpoint_key: bytes) -> Hash32:
    """What the checkpoint key signs to be registered by `operator`: docs/staking.md, "Keys"."""
    fields = KEY_PROOF_TAG + chain_id.to_bytes(32, "big") + operator + keccak256(checkpoint_key)
    return Hash32(keccak256(fields))


def prove_keys(keys: ValidatorKeys, chain_id: int, operator: Address) -> KeyProofs:
    """Raises `BadKeyProof` for keys that were made for another operator."""
    public = keys.public
    check_operator(public, operator)
    message = checkpoint_key_message(chain_id, operator, public.checkpoint_key)
    return KeyProofs(
        chain_id=chain_id,
        operator=operator,
        voting_key=public.voting_key,
        possession=public.proof_of_possession,
        checkpoint_key=public.checkpoint_key,
        checkpoint_possession=ml_dsa.sign(keys.checkpoint_seed, message),
    )


def check_operator(public: PublicKeys, operator: Address) -> None:
    if public.operator is not None and public.operator != operator:
        raise BadKeyProof(f"the keys were made for operator 0x{public.operator.hex()}, not for 0x{operator.hex()}")


def check_proofs(proofs: KeyProofs) -> None:
    """What the contract will check. Raises `BadKeyProof`."""
    if not bls.verify_possession(proofs.voting_key, proofs.possession):
        raise BadKeyProof("possession: does not prove votingKey")
    message = checkpoint_key_message(proofs.chain_id, proofs.operator, proofs.checkpoint_key)
    if not ml_dsa.verify(proofs.checkpoint_key, message, proofs.checkpoint_possession):
        raise BadKeyProof("checkpointPossession: does not prove checkpointKey for this operator on this chain")


def key_proofs_object(proofs: KeyProofs) -> dict[str, object]:
    """For a file that goes from the machine with the keys to the one with the operator's account."""
    return {
        "chainId": proofs.chain_id,
        "operator": "0x" + proofs.operator.hex(),
        "votingKey": "0x" + proofs.voting_key.hex(),
        "possession": "0x" + proofs.possession.hex(),
        "checkpointKey": "0x" + proofs.checkpoint_key.hex(),
        "checkpointPossession": "0x" + proofs.checkpoint_possession.hex(),
    }


def parse_key_proofs(entry: Mapping[str, object]) -> KeyProofs:
    """The inverse, with the proofs checked. Raises `KeystoreError` for a wrong shape, `BadKeyProof`."""
    chain_id = integer_field(entry, "chainId")
    if not 0 < chain_id < 2**256:
        raise BadKeyProof(f"chainId: expected 1 to 2^256 - 1, found {chain_id}")
    proofs = KeyProofs(
        chain_id=chain_id,
        operator=Address(hex_field(entry, "operator", width=20)),
        voting_key=hex_field(entry, "votingKey", width=48),
        possession=hex_field(entry, "possession", width=96),
        checkpoint_key=hex_field(entry, "checkpointKey", width=ml_dsa.PUBLIC_KEY_BYTES),
        checkpoint_possession=hex_field(entry, "checkpointPossession", width=ml_dsa.SIGNATURE_BYTES),
    )
    check_proofs(proofs)
    return proofs
