// Verifies Merkle-Patricia proofs as eth_getProof returns them (EIP-1186), trusting nothing but the root.
// `keccak256` and `decodeRlp` come from the client library under test; all bytes are 0x-hex strings.

// The RLP value stored under keccak(key), or null if the proof shows that there is none. Throws on a bad proof.
export function verifyProof(root, key, nodes, { keccak256, decodeRlp }) {
  const path = [...keccak256(key).slice(2)].map((digit) => parseInt(digit, 16));
  let expectedHash = root;
  let inlined = null;
  let position = 0;
  let used = 0;
  for (;;) {
    let node = inlined;
    if (node === null) {
      if (used === nodes.length) {
        if (used === 0 && root === keccak256("0x80")) return null;
        throw new Error("the proof ends before the key does");
      }
      const raw = nodes[used++];
      if (keccak256(raw) !== expectedHash) throw new Error(`proof node ${used - 1} does not hash to ${expectedHash}`);
      node = decodeRlp(raw);
    }
    if (node === "0x") return finish("0x"); // An empty trie, which some nodes prove by its one empty node.
    let child;
    if (node.length === 17) {
      if (position === path.length) return finish(node[16]);
      child = node[path[position++]];
    } else if (node.length === 2) {
      const { nibbles, isLeaf } = decodePath(node[0]);
      const matches = nibbles.every((nibble, index) => nibble === path[position + index]);
      if (isLeaf) return finish(matches && position + nibbles.length === path.length ? node[1] : "0x");
      if (!matches) return finish("0x");
      position += nibbles.length;
      child = node[1];
    } else {
      throw new Error(`a trie node has 2 or 17 items, found ${node.length}`);
    }
    if (child === "0x") return finish("0x");
    [expectedHash, inlined] = Array.isArray(child) ? [null, child] : [child, null];
  }

  function finish(value) {
    if (used !== nodes.length) throw new Error("the proof has nodes that are not on the path");
    return value === "0x" ? null : value;
  }
}

// Hex-prefix encoding (Yellow Paper, appendix C).
function decodePath(encoded) {
  const digits = [...encoded.slice(2)].map((digit) => parseInt(digit, 16));
  return { isLeaf: digits[0] >= 2, nibbles: digits.slice(digits[0] % 2 === 1 ? 1 : 2) };
}

// Checks an eth_getProof answer against a block's state root and returns nothing; throws where they differ.
export function verifyAccountProof(stateRoot, answer, { keccak256, decodeRlp, encodeRlp }) {
  const library = { keccak256, decodeRlp };
  const minimal = (quantity) => {
    const digits = BigInt(quantity).toString(16);
    return quantity === "0x0" || BigInt(quantity) === 0n ? "0x" : `0x${digits.padStart(digits.length + (digits.length % 2), "0")}`;
  };
  const account = encodeRlp([minimal(answer.nonce), minimal(answer.balance), answer.storageHash, answer.codeHash]);
  const proven = verifyProof(stateRoot, answer.address, answer.accountProof, library);
  if (proven !== account) throw new Error(`account: proven ${proven}, answered ${account}`);
  for (const { key, value, proof } of answer.storageProof) {
    const slot = `0x${BigInt(key).toString(16).padStart(64, "0")}`;
    const stored = verifyProof(answer.storageHash, slot, proof, library);
    const answered = BigInt(value) === 0n ? null : encodeRlp(minimal(value));
    if (stored !== answered) throw new Error(`slot ${key}: proven ${stored}, answered ${answered}`);
  }
}
