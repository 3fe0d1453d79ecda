"""A quantum-safe checkpoint: ML-DSA-65 signatures of more than 2/3 of the power on an epoch's last block.

It names the set that votes next, so that a chain of checkpoints follows the validators without trusting BLS. A
set stores only hashes of the ML-DSA keys, hence a checkpoint brings the signers' keys along.
"""

from collections.abc import Callable
from dataclasses import dataclass

from consensus.certificate import MAX_BITMAP_BYTES, CertificateError, signer_indices
from consensus.hashing import keccak256
from consensus.messages import checkpoint_sign_bytes, signing_root
from consensus.params import MAX_HEIGHT
from consensus.validator_set import ValidatorSet
from consensus.wire import DecodeError, WireReader, exact_bytes

ML_DSA_KEY_BYTES = 1952
ML_DSA_SIGNATURE_BYTES = 3309

NO_CHECKPOINT_EPOCH = -1
"""Stands for the epoch of the latest checkpoint before there is one: epoch 0's is newer."""

VerifyOne = Callable[[bytes, bytes, bytes], bool]
"""(ML-DSA key, message, signature) -> whether it holds; astralink_node.crypto.ml_dsa.verify."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    epoch: int
    height: int
    """The epoch's last height."""
    block_hash: bytes
    next_set_hash: bytes
    """The set that votes from the next height."""
    signers: bytes
    """Bitmap over the members of the set that voted in this epoch, as in a certificate."""
    keys: tuple[bytes, ...]
    """The signers' ML-DSA-65 keys, 1,952 bytes each, in the order of their bits."""
    signatures: tuple[bytes, ...]
    """3,309 bytes each, in the same order."""

    def sign_bytes(self, genesis_hash: bytes) -> bytes:
        return checkpoint_sign_bytes(genesis_hash, self.epoch, self.height, self.block_hash, self.next_set_hash)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Epoch 8, height 8, block hash 32, next set hash 32, bitmap length 2, bitmap; for each bit key 1952, signature."""
    count = len(signer_indices(checkpoint.signers))
    if not count == len(checkpoint.keys) == len(checkpoint.signatures):
        raise ValueError(f"checkpoint: {count} signers, {len(checkpoint.keys)} keys, {len(checkpoint.signatures)}")
    if not 1 <= len(checkpoint.signers) <= MAX_BITMAP_BYTES:
        raise ValueError(f"signers: expected 1 to {MAX_BITMAP_BYTES} bytes, found {len(checkpoint.signers)}")
    parts = [
        checkpoint.sign_bytes(bytes(32))[48:],
        len(checkpoint.signers).to_bytes(2, "big"),
        checkpoint.signers,
    ]
    for key, signature in zip(checkpoint.keys, checkpoint.signatures, strict=True):
        parts.append(exact_bytes(key, ML_DSA_KEY_BYTES, "key"))
        parts.append(exact_bytes(signature, ML_DSA_SIGNATURE_BYTES, "signature"))
    return b"".join(parts)


def decode_checkpoint(data: bytes) -> Checkpoint:
    """The inverse of `encode_checkpoint`; `DecodeError` for anything else."""
    reader = WireReader(data)
    epoch = reader.unsigned(8, "epoch")
    height = reader.unsigned(8, "height", maximum=MAX_HEIGHT)
    block_hash = reader.take(32, "block_hash")
    next_set_hash = reader.take(32, "next_set_hash")
    length = reader.unsigned(2, "bitmap_length", maximum=MAX_BITMAP_BYTES)
    if not length or not height:
        raise DecodeError("checkpoint", "a bitmap and a height", "none")
    signers = reader.take(length, "signers")
    pairs = [
        (reader.take(ML_DSA_KEY_BYTES, "key"), reader.take(ML_DSA_SIGNATURE_BYTES, "signature"))
        for _ in signer_indices(signers)
    ]
    reader.finish()
    keys, signatures = tuple(key for key, _ in pairs), tuple(signature for _, signature in pairs)
    return Checkpoint(epoch, height, block_hash, next_set_hash, signers, keys, signatures)


def checkpoint_hash(encoded: bytes) -> bytes:
    """What a payload's leaf holds: it commits to the signatures as well."""
    return keccak256(encoded)


def verify_checkpoint(
    checkpoint: Checkpoint, validator_set: ValidatorSet, genesis_hash: bytes, verify_one: VerifyOne
) -> None:
    """Raises `CertificateError` unless strictly more than 2/3 of the set's power signed.

    Each key must hash to what the member of that very bit registered; power is that member's.
    """
    count = len(validator_set)
    indices = signer_indices(checkpoint.signers)
    if len(checkpoint.signers) != (count + 7) // 8 or (indices and indices[-1] >= count):
        raise CertificateError("bitmap_length", f"bits of {count} members", checkpoint.signers.hex())
    if not len(indices) == len(checkpoint.keys) == len(checkpoint.signatures):
        raise CertificateError("signers", f"{len(indices)} keys and signatures", f"{len(checkpoint.keys)}")
    members = [validator_set.validators[index] for index in indices]
    power = sum(member.power for member in members)
    if not validator_set.has_quorum(power):
        raise CertificateError("quorum", f"more than 2/3 of {validator_set.total_power}", f"{power}")
    message = signing_root(checkpoint.sign_bytes(genesis_hash))
    for member, key, signature in zip(members, checkpoint.keys, checkpoint.signatures, strict=True):
        if keccak256(key) != member.ml_dsa_key_hash:
            raise CertificateError("key", member.ml_dsa_key_hash.hex(), keccak256(key).hex())
        if not verify_one(key, message, signature):
            raise CertificateError("signature", f"a signature by {member.voting_key.hex()}", "another")
