# pragma version ==0.4.3
"""
@title KeyProofs
@notice Whether whoever registers a voting key (BLS12-381) or a checkpoint key (ML-DSA-65) holds its secret.
        Keeps nothing. BLS per draft-irtf-cfrg-bls-signature-05 (POP ciphersuite) and RFC 9380 over EIP-2537.
"""

MODEXP: constant(address) = 0x0000000000000000000000000000000000000005
G2_ADD: constant(address) = 0x000000000000000000000000000000000000000d
PAIRING: constant(address) = 0x000000000000000000000000000000000000000F
MAP_FP2_TO_G2: constant(address) = 0x0000000000000000000000000000000000000011
ML_DSA_65: constant(address) = 0x00000000000000000000000000000000000A5165

# A precompile that fails burns all that it was given: enough for each, not more.
PAIRING_GAS: constant(uint256) = 150_000
ML_DSA_GAS: constant(uint256) = 50_000

DST: constant(Bytes[44]) = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_\x2b"  # with its length
MODULUS: constant(Bytes[48]) = x"1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
# (p - 1) / 2: a key whose y is above it is marked as such in its compressed form.
HALF_HIGH: constant(bytes16) = 0x0d0088f51cbff34d258dd3db21a5d66b
HALF_LOW: constant(bytes32) = 0xb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd555
NEGATIVE_G1: constant(Bytes[128]) = x"0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb00000000000000000000000000000000114d1d6855d545a8aa7d76c8cf2e21f267816aef1db507c96655b9d5caac42364e6f38ba0ecb751bad54dcd6b939c2ca"

CHECKPOINT_TAG: constant(Bytes[16]) = b"ALNK:keyproof/v1"


@external
@view
def voting_key(key: Bytes[128], possession: Bytes[256]) -> Bytes[48]:
    """
    @notice The compressed form of a voting key whose possession is proven; reverts if it is not
    @param key G1 point as EIP-2537 writes it
    @param possession G2 point as EIP-2537 writes it: the suite's signature over the compressed key
    """
    assert len(key) == 128, "keys: voting key of 128 bytes"
    assert len(possession) == 256, "keys: possession of 256 bytes"
    compressed: Bytes[48] = self._compress(key)
    ok: bool = False
    answer: Bytes[32] = b""
    # e(key, H(compressed)) == e(generator, possession); the precompile checks curve and subgroups.
    ok, answer = raw_call(
        PAIRING,
        concat(key, self._hash_to_curve(compressed), NEGATIVE_G1, possession),
        max_outsize=32,
        gas=PAIRING_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert ok, "keys: not points of the groups"
    assert convert(answer, uint256) == 1, "keys: possession not proven"
    return compressed


@external
@view
def checkpoint_key(operator: address, key: Bytes[1952], possession: Bytes[3309]) -> bytes32:
    """
    @notice The hash of a checkpoint key whose possession is proven; reverts if it is not
    @param possession ML-DSA-65 signature on `checkpoint_message`
    """
    assert len(key) == 1952, "keys: checkpoint key length"
    assert len(possession) == 3309, "keys: checkpoint proof length"
    key_hash: bytes32 = keccak256(key)
    ok: bool = False
    answer: Bytes[32] = b""
    ok, answer = raw_call(
        ML_DSA_65,
        concat(key, possession, self._checkpoint_message(operator, key_hash)),
        max_outsize=32,
        gas=ML_DSA_GAS,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert ok and len(answer) == 32 and convert(answer, uint256) == 1, "keys: checkpoint key unproven"
    return key_hash


@external
@view
def checkpoint_message(operator: address, key_hash: bytes32) -> bytes32:
    """
    @notice What the holder of a checkpoint key signs to register it for `operator` on this chain
    """
    return self._checkpoint_message(operator, key_hash)


@internal
@view
def _checkpoint_message(operator: address, key_hash: bytes32) -> bytes32:
    return keccak256(
        concat(CHECKPOINT_TAG, convert(chain.id, bytes32), convert(operator, bytes20), key_hash)
    )


@internal
@pure
def _compress(key: Bytes[128]) -> Bytes[48]:
    x_high: uint256 = convert(extract32(key, 0), uint256)
    x_low: bytes32 = extract32(key, 32)
    y_high: uint256 = convert(extract32(key, 64), uint256)
    y_low: uint256 = convert(extract32(key, 96), uint256)
    assert x_high >> 128 == 0 and y_high >> 128 == 0, "keys: coordinate out of range"
    assert x_high | convert(x_low, uint256) | y_high | y_low != 0, "keys: the identity"
    flags: uint256 = 128
    half_high: uint256 = convert(HALF_HIGH, uint256)
    if y_high > half_high or (y_high == half_high and y_low > convert(HALF_LOW, uint256)):
        flags = 160
    first: bytes32 = convert(x_high | (flags << 120), bytes32)
    return concat(slice(first, 16, 16), x_low)


@internal
@view
def _hash_to_curve(message: Bytes[48]) -> Bytes[256]:
    """RFC 9380 section 3: expand_message_xmd with SHA-256 to 256 bytes, two elements of Fp2, both mapped, added."""
    # 64 zero bytes fill the hash's block; then message, length in bytes, 0, DST.
    first: bytes32 = sha256(concat(empty(bytes32), empty(bytes32), message, b"\x01\x00\x00", DST))
    words: bytes32[8] = empty(bytes32[8])
    words[0] = sha256(concat(first, b"\x01", DST))
    for i: uint256 in range(1, 8):
        mixed: bytes32 = convert(convert(first, uint256) ^ convert(words[i - 1], uint256), bytes32)
        words[i] = sha256(concat(mixed, convert(convert(i + 1, uint8), bytes1), DST))
    left: Bytes[256] = self._map(words[0], words[1], words[2], words[3])
    right: Bytes[256] = self._map(words[4], words[5], words[6], words[7])
    return raw_call(G2_ADD, concat(left, right), max_outsize=256, is_static_call=True)


@internal
@view
def _map(a: bytes32, b: bytes32, c: bytes32, d: bytes32) -> Bytes[256]:
    return raw_call(
        MAP_FP2_TO_G2, concat(self._field(a, b), self._field(c, d)), max_outsize=256, is_static_call=True
    )


@internal
@view
def _field(high: bytes32, low: bytes32) -> Bytes[64]:
    """64 bytes modulo p, as EIP-2537 writes a field element."""
    request: Bytes[209] = concat(
        convert(64, bytes32), convert(1, bytes32), convert(48, bytes32), high, low, b"\x01", MODULUS
    )
    reduced: Bytes[48] = raw_call(MODEXP, request, max_outsize=48, is_static_call=True)
    return concat(empty(bytes16), reduced)
