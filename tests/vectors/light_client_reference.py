"""A reference of the light client, written from docs/specification.md, "Light client", alone.

It shares no code with the implementation; it judges one new light block on top of one trusted block.
"""

import struct
from fractions import Fraction

from tests.vectors.consensus_reference import (
    Refused,
    aggregate_holds,
    k256,
    parse_certificate,
    possession_holds,
    reference_root,
    reference_sign_bytes,
    signers_of,
    tag,
    unhex,
)

LEAVES = {"timeMs": 3, "votingSetHash": 8, "nextSetHash": 9}


def rlp_strings(raw: bytes) -> list[bytes]:
    """The byte strings of one flat RLP list."""
    if len(raw) < 3 or raw[0] != 0xF9 or len(raw) != 3 + int.from_bytes(raw[1:3], "big"):
        raise Refused("encoding")  # a header is always longer than 255 bytes
    found, at = [], 3
    while at < len(raw):
        first = raw[at]
        if first < 0x80:
            begin, length = at, 1
        elif first <= 0xB7:
            begin, length = at + 1, first - 0x80
        else:
            width = first - 0xB7
            begin, length = at + 1 + width, int.from_bytes(raw[at + 1 : at + 1 + width], "big")
        found.append(raw[begin : begin + length])
        at = begin + length
    return found


def parse_set(encoded: bytes):
    """Members as (key, power) in order, and the set's hash."""
    (count,) = struct.unpack(">I", encoded[:4])
    aggregate_key, body = encoded[4:132], encoded[132:]
    if len(body) != 108 * count:
        raise Refused("encoding")
    entries = [body[108 * at : 108 * (at + 1)] for at in range(count)]
    members = [(entry[:48], int.from_bytes(entry[80:88], "big")) for entry in entries]
    root = reference_root([struct.pack(">I", at) + entry for at, entry in enumerate(entries)])
    head = tag("ALNK:valset/v1") + struct.pack(">IQ", count, sum(power for _, power in members))
    return {"members": members, "hash": k256(head + aggregate_key + root)}


def whole_payload_fields(encoded: bytes):
    """The root of an encoded payload that carries no certificates, evidence or checkpoint, and three of its fields."""
    version_length = encoded[0]
    widths = [32, 8, 8, 8, 32, 96, 3, 32, 32, 1, 8, 4, 32, 32]
    at, pieces = 1 + version_length, []
    for width in widths:
        pieces.append(encoded[at : at + width])
        at += width
    assert at == len(encoded)
    assert (pieces[6], pieces[9], pieces[11]) == (bytes(3), bytes(1), bytes(4))
    leaves = [encoded[1 : 1 + version_length], *pieces[:9], bytes(32), pieces[10], *pieces[12:]]
    return reference_root(leaves), int.from_bytes(pieces[2], "big"), pieces[7], pieces[8]


def read_block(block, sets):
    header = rlp_strings(unhex(block["rawHeader"]))
    if len(header) != 21:
        raise Refused("encoding")
    certificate = parse_certificate(unhex(block["certificate"])) if block["certificate"] != "0x" else None
    voting_set = parse_set(sets[block["votingSet"]])
    next_set = parse_set(sets[block["nextSet"]]) if block["nextSet"] else voting_set
    root, payload = header[19], block["payload"]
    if isinstance(payload, str):
        payload_root, time_ms, voting_hash, next_hash = whole_payload_fields(unhex(payload))
        if payload_root != root:
            raise Refused("branch")
    else:
        time_ms, voting_hash, next_hash = proven_fields(payload, root)
    if time_ms // 1000 != int.from_bytes(header[11], "big"):
        raise Refused("timestamp")
    if voting_set["hash"] != voting_hash:
        raise Refused("voting_set")
    if next_set["hash"] != next_hash:
        raise Refused("next_set")
    return {
        "height": int.from_bytes(header[8], "big"),
        "hash": k256(unhex(block["rawHeader"])),
        "parent": header[0],
        "timeMs": time_ms,
        "certificate": certificate,
        "votingSet": voting_set,
        "nextSet": next_set,
        "possessions": {unhex(key): unhex(proof) for key, proof in block["possessions"]},
    }


def proven_fields(payload, root: bytes) -> tuple[int, bytes, bytes]:
    values = (struct.pack(">Q", payload["timeMs"]), unhex(payload["votingSetHash"]), unhex(payload["nextSetHash"]))
    for value, index, branch in zip(values, LEAVES.values(), payload["branches"], strict=True):
        node = k256(b"\x00" + value)
        if len(branch) != 4:
            raise Refused("branch")
        for sibling in map(unhex, branch):
            node = k256(b"\x01" + (sibling + node if index % 2 else node + sibling))
            index //= 2
        if node != root:
            raise Refused("branch")
    return payload["timeMs"], values[1], values[2]


def check_commit(new, genesis: str) -> None:
    certificate, members = new["certificate"], new["votingSet"]["members"]
    if certificate is None:
        raise Refused("certificate")
    if certificate["voteType"] != "precommit":
        raise Refused("commit_vote_type")
    if int(certificate["height"]) != new["height"]:
        raise Refused("commit_height")
    if unhex(certificate["blockHash"]) != new["hash"]:
        raise Refused("commit_block_hash")
    bitmap = unhex(certificate["signers"])
    signers = signers_of(bitmap)
    power = sum(members[index][1] for index in signers if index < len(members))
    if Fraction(power, sum(power for _, power in members)) <= Fraction(2, 3):
        raise Refused("commit_quorum")
    if len(bitmap) != (len(members) + 7) // 8:
        raise Refused("commit_bitmap_length")
    if max(signers) >= len(members):
        raise Refused("commit_signers")
    root = k256(reference_sign_bytes("vote", {**certificate, "genesisHash": genesis}))
    if not aggregate_holds(tuple(members[index][0] for index in signers), root, unhex(certificate["signature"])):
        raise Refused("commit_signature")


def judge(file, trusted_block, new_block, now_ms: int) -> None:
    """Raises `Refused` with the rule that keeps the new block from being believed."""
    sets = {entry["name"]: unhex(entry["encoded"]) for entry in file["sets"]}
    genesis, trusted, new = file["genesisHash"], read_block(trusted_block, sets), read_block(new_block, sets)
    ahead = new["height"] - trusted["height"]
    if ahead == 0 and new["hash"] == trusted["hash"]:
        return
    if ahead < 0:
        raise Refused("height")
    if now_ms - trusted["timeMs"] >= file["unbondingMs"] // 2:
        raise Refused("trusting_period")
    if ahead == 0:
        if new["votingSet"]["hash"] != trusted["votingSet"]["hash"]:
            raise Refused("voting_set")
        check_commit(new, genesis)
        raise Refused("fork")
    if new["timeMs"] < trusted["timeMs"] + ahead * file["minBlockIntervalMs"]:
        raise Refused("time")
    if new["timeMs"] > now_ms + file["precisionMs"]:
        raise Refused("clock")
    if ahead == 1:
        if new["votingSet"]["hash"] != trusted["nextSet"]["hash"]:
            raise Refused("announced_set")
        check_commit(new, genesis)
        if new["parent"] != trusted["hash"]:
            raise Refused("fork")
        return
    known = dict(trusted["nextSet"]["members"])
    signing = [new["votingSet"]["members"][index][0] for index in signers_of(unhex(new["certificate"]["signers"]))]
    power = sum(known[key] for key in signing if key in known)
    if Fraction(power, sum(known.values())) <= Fraction(1, 3):
        raise Refused("trust_level")
    for key in signing:
        if key not in known:
            proof = new["possessions"].get(key)
            if proof is None or not possession_holds(key, proof):
                raise Refused("possession")
    check_commit(new, genesis)
