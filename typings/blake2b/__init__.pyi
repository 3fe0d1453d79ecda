"""The part of blake2b-py that the node uses."""

def decode_and_compress(data: bytes) -> bytes:
    """EIP-152 input to output; raises ValueError on a wrong length or flag."""
