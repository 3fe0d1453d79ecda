"""A reference of the consensus formats and rules, written from docs/specification.md alone.

It shares no code with the implementation: another keccak, `struct`, a recursive tree, py_ecc for BLS, fractions
for quorums and priorities step by step. Slow and simple on purpose.
"""

import struct
from fractions import Fraction
from functools import cache

import rlp
from Crypto.Hash import keccak
from py_ecc.bls import G2ProofOfPossession


class Refused(Exception):
    """Bytes or values that the specification does not accept, by the name of the rule."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def k256(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


def tag(text: str) -> bytes:
    return text.encode().ljust(16, b"\0")


def tree(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    half = len(hashes) // 2
    return k256(b"\x01" + tree(hashes[:half]) + tree(hashes[half:]))


def reference_root(values: list[bytes]) -> bytes:
    width = 1
    while width < len(values):
        width *= 2
    return tree([k256(b"\x00" + value) for value in values] + [bytes(32)] * (width - len(values)))


def reference_sign_bytes(kind: str, message) -> bytes:
    genesis = unhex(message["genesisHash"])
    height = int(message["height"])
    if kind == "proposal":
        head = tag("ALNK:proposal/v1") + genesis + struct.pack(">QI", height, message["round"])
        return head + unhex(message["blockHash"]) + struct.pack(">i", message["validRound"])
    if kind == "vote":
        code = {"prevote": 1, "precommit": 2}[message["voteType"]]
        head = tag("ALNK:vote/v1") + genesis + struct.pack(">QIB", height, message["round"], code)
        tail = struct.pack(">i", message["validRound"]) if code == 1 else b""
        return head + unhex(message["blockHash"]) + tail
    if kind == "reveal":
        return tag("ALNK:reveal/v1") + genesis + struct.pack(">Q", height)
    numbers = struct.pack(">QQ", message["epoch"], height)
    return tag("ALNK:ckpoint/v1") + genesis + numbers + unhex(message["blockHash"]) + unhex(message["nextSetHash"])


def reference_member_leaves(members) -> list[bytes]:
    return [
        struct.pack(">I", index)
        + unhex(member["votingKey"])
        + unhex(member["mlDsaKeyHash"])
        + struct.pack(">Q", int(member["power"]))
        + unhex(member["operator"])
        for index, member in enumerate(members)
    ]


def reference_step(priorities: list[int], powers: list[int]) -> tuple[list[int], int]:
    total = sum(powers)
    spread = max(priorities) - min(priorities)
    if spread > 2 * total:
        ratio = (spread + 2 * total - 1) // (2 * total)
        priorities = [int(Fraction(value, ratio)) for value in priorities]  # int() cuts toward zero
    mean = Fraction(sum(priorities), len(priorities)).__floor__()
    priorities = [value - mean + power for value, power in zip(priorities, powers, strict=True)]
    winner = max(range(len(powers)), key=lambda index: (priorities[index], -index))
    priorities[winner] -= total
    return priorities, winner


def reference_certificate(certificate) -> bytes:
    code = {"prevote": 1, "precommit": 2}[certificate["voteType"]]
    head = struct.pack(">BQIi", code, certificate["height"], certificate["round"], certificate["validRound"])
    bitmap = unhex(certificate["signers"])
    return (
        head
        + unhex(certificate["blockHash"])
        + struct.pack(">H", len(bitmap))
        + bitmap
        + unhex(certificate["signature"])
    )


def reference_payload(payload) -> tuple[list[bytes], bytes]:
    """The 14 leaves and the encoding."""
    parent = payload["parentCertificate"]
    encoded_parent = reference_certificate(parent) if parent else b""
    certificates = struct.pack(">H", len(encoded_parent)) + encoded_parent + bytes([len(payload["lateCredits"])])
    for credit in payload["lateCredits"]:
        encoded_credit = reference_certificate(credit)
        certificates += struct.pack(">H", len(encoded_credit)) + encoded_credit
    evidence = [unhex(item) for item in payload["evidence"]]
    before = [
        unhex(payload["genesisHash"]),
        struct.pack(">Q", payload["height"]),
        struct.pack(">Q", payload["timeMs"]),
        struct.pack(">II", payload["buildRound"], payload["proposerIndex"]),
        unhex(payload["prioritiesHash"]),
        unhex(payload["reveal"]),
        certificates,
        unhex(payload["votingSetHash"]),
        unhex(payload["nextSetHash"]),
    ]
    version, checkpoint_bytes = unhex(payload["version"]), unhex(payload["checkpoint"])
    epoch_bytes = struct.pack(">Q", payload["epoch"])
    after = [unhex(payload["checkpointHash"]), unhex(payload["outboxRoot"])]
    leaves = [version, *before, reference_root(evidence) if evidence else bytes(32), epoch_bytes, *after]
    listed = bytes([len(evidence)]) + b"".join(struct.pack(">I", len(item)) + item for item in evidence)
    body = struct.pack(">I", len(checkpoint_bytes)) + checkpoint_bytes
    encoded = bytes([len(version)]) + version + b"".join(before) + listed + epoch_bytes + body + b"".join(after)
    return leaves, encoded


def signers_of(bitmap: bytes) -> list[int]:
    return [8 * at + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte & (1 << bit)]


# --- Votes, proposals, evidence ------------------------------------------------------------------------------


def hexed(data: bytes) -> str:
    return "0x" + data.hex()


def number(value: int) -> int | str:
    return str(value) if value >= 2**53 else value


def check_signable(kind: str, signed) -> None:
    """Whether the values are such that somebody may sign them."""
    height, round_, valid_round = int(signed["height"]), signed["round"], signed["validRound"]
    is_nil = unhex(signed["blockHash"]) == bytes(32)
    if not 1 <= height < 2**63 or not 0 <= round_ <= 65_535 or not -1 <= valid_round < max(round_, 0):
        raise Refused("encoding")
    if kind == "proposal" and is_nil:
        raise Refused("encoding")
    if kind == "vote" and valid_round != -1 and (is_nil or signed["voteType"] != "prevote"):
        raise Refused("encoding")


def vote_type_of(code: int) -> str:
    if code not in (1, 2):
        raise Refused("encoding")
    return ("prevote", "precommit")[code - 1]


def reference_signed(kind: str, encoded: bytes):
    """What 149 bytes of a vote or 144 of a proposal say, as the vectors write it."""
    if len(encoded) != {"vote": 149, "proposal": 144}[kind]:
        raise Refused("encoding")
    found = {}
    if kind == "vote":
        found["voteType"] = vote_type_of(encoded[0])
        encoded = encoded[1:]
    height, round_, block_hash, valid_round = struct.unpack(">QI32si", encoded[:48])
    found |= {"height": number(height), "round": round_, "blockHash": hexed(block_hash), "validRound": valid_round}
    if kind == "vote":
        (found["validatorIndex"],) = struct.unpack(">I", encoded[48:52])
        if found["validatorIndex"] > 511:
            raise Refused("encoding")
    found["signature"] = hexed(encoded[-96:])
    check_signable(kind, found)
    return found


def parse_certificate(encoded: bytes):
    if len(encoded) < 51:
        raise Refused("encoding")
    code, height, round_, valid_round, block_hash, length = struct.unpack(">BQIi32sH", encoded[:51])
    if not 1 <= length <= 64 or len(encoded) != 51 + length + 96:
        raise Refused("encoding")
    found = {
        "voteType": vote_type_of(code),
        "height": number(height),
        "round": round_,
        "validRound": valid_round,
        "blockHash": hexed(block_hash),
        "signers": hexed(encoded[51 : 51 + length]),
        "signature": hexed(encoded[-96:]),
    }
    check_signable("vote", found)
    return found


@cache
def aggregate_holds(keys: tuple[bytes, ...], message: bytes, signature: bytes) -> bool:
    return G2ProofOfPossession.FastAggregateVerify(list(keys), message, signature)


@cache
def possession_holds(key: bytes, proof: bytes) -> bool:
    return G2ProofOfPossession.PopVerify(key, proof)


def signers_named(testimony) -> set[int]:
    if testimony["form"] == "vote":
        return {testimony["validatorIndex"]}
    return set(signers_of(unhex(testimony["signers"])))


def check_testimony(testimony, keys: list[bytes], genesis: str) -> None:
    count, named = len(keys), signers_named(testimony)
    if testimony["form"] == "certificate" and len(unhex(testimony["signers"])) != -(-count // 8):
        raise Refused("bitmap_length")
    if not named or max(named) >= count:
        raise Refused("signers")
    root = k256(reference_sign_bytes("vote", {**testimony, "genesisHash": genesis}))
    if not aggregate_holds(tuple(keys[index] for index in sorted(named)), root, unhex(testimony["signature"])):
        raise Refused("signature")


def reference_evidence(encoded: bytes, members, genesis: str):
    """The two testimonies, the kind and the convicted; raises `Refused`."""
    parts, pieces = [], []
    for _ in range(2):
        if len(encoded) < 3:
            raise Refused("encoding")
        form, length = struct.unpack(">BH", encoded[:3])
        body = encoded[3 : 3 + length]
        if form not in (1, 2) or len(body) != length:
            raise Refused("encoding")
        said = reference_signed("vote", body) if form == 1 else parse_certificate(body)
        parts.append({"form": ("vote", "certificate")[form - 1], **said})
        pieces.append(encoded[: 3 + length])
        encoded = encoded[3 + length :]
    if encoded or pieces[0] >= pieces[1]:
        raise Refused("encoding")
    kind = kind_of(*parts)
    if kind is None:
        raise Refused("contradiction")
    convicted = sorted(signers_named(parts[0]) & signers_named(parts[1]))
    if not convicted:
        raise Refused("accused")
    for testimony in parts:
        check_testimony(testimony, [unhex(member["votingKey"]) for member in members], genesis)
    return parts, kind, convicted


def reference_formed(encoded: bytes) -> bytes:
    """Evidence of the first form: two testimonies."""
    return b"\x01" + struct.pack(">H", len(encoded)) + encoded


def reference_item(formed: bytes, members, aggregate_key: bytes) -> bytes:
    """Evidence of either form as a block carries it: with the set that votes at its height, stored as sets are."""
    stored = struct.pack(">I", len(members)) + aggregate_key
    stored += b"".join(leaf[4:] for leaf in reference_member_leaves(members))
    return formed + stored


def reference_forged(formed: bytes, canonical_parent: str, members, genesis: str):
    """What a forged header says: (number, parent hash, block hash), certificate, signers; raises `Refused`."""
    if formed[:1] != b"\x02" or len(formed) < 3:
        raise Refused("encoding")
    (length,) = struct.unpack(">H", formed[1:3])
    raw_header, rest = formed[3 : 3 + length], formed[3 + length :]
    if not 1 <= length <= 2_048 or len(rest) < 2:
        raise Refused("encoding")
    if struct.unpack(">H", rest[:2])[0] != len(rest) - 2:
        raise Refused("encoding")
    certificate = parse_certificate(rest[2:])
    try:
        fields = rlp.decode(raw_header, strict=True)
    except rlp.DecodingError as error:
        raise Refused("header") from error
    if not isinstance(fields, list) or len(fields) != 21 or len(fields[0]) != 32:
        raise Refused("header")
    link = {
        "number": number(int.from_bytes(fields[8], "big")),
        "parentHash": hexed(fields[0]),
        "blockHash": hexed(k256(raw_header)),
    }
    if certificate["voteType"] != "precommit":
        raise Refused("vote_type")
    if certificate["blockHash"] != link["blockHash"]:
        raise Refused("block_hash")
    if certificate["height"] != link["number"]:
        raise Refused("number")
    if unhex(canonical_parent) == bytes(32):
        raise Refused("history")
    if canonical_parent == link["parentHash"]:
        raise Refused("parent")
    check_testimony({"form": "certificate", **certificate}, [unhex(one["votingKey"]) for one in members], genesis)
    return link, certificate, signers_of(unhex(certificate["signers"]))


def kind_of(first, second) -> str | None:
    if first["height"] != second["height"]:
        return None
    if first["voteType"] == second["voteType"]:
        words = [(each["blockHash"], each["validRound"]) for each in (first, second)]
        return "duplicate" if first["round"] == second["round"] and words[0] != words[1] else None
    lock, prevote = sorted((first, second), key=lambda each: each["voteType"])  # "precommit" < "prevote"
    if unhex(lock["blockHash"]) == bytes(32) or unhex(prevote["blockHash"]) == bytes(32):
        return None
    later, rests_below = prevote["round"] > lock["round"], prevote["validRound"] < lock["round"]
    return "amnesia" if later and rests_below else None
