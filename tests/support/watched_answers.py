"""What a node answers to the verbs that look at one."""

from __future__ import annotations

from typing import Any

OWN = "12D3KooWOwnOwnOwnOwn"
FIRST, SECOND = "12D3KooWAAAAAAAA", "12D3KooWBBBBBBBB"
BLOCK = "0x" + "0b" * 32


def healthy(now_s: int) -> dict[str, Any]:
    """By method: a validator of four, two of its peers connected."""
    return {
        "astralink_nodeStatus": {
            "clientVersion": "astralink/test",
            "chainId": hex(1234),
            "genesisHash": "0x" + "ab" * 32,
            "headNumber": hex(811),
            "headHash": "0x" + "cd" * 32,
            "headTimestamp": hex(now_s),
            "nextBaseFeePerGas": "0x1",
            "nextGasLimit": "0x1",
            "peerCount": "0x2",
            "isValidator": True,
            "blockIntervalMs": hex(1000),
            "pendingTransactions": "0x7",
            "queuedTransactions": "0x0",
            "makesEmptyBlocks": True,
        },
        "astralink_consensusState": consensus("new_height", "height 812 waits for its turn since 0 s", now_s),
        "astralink_netStatus": {
            "listening": True,
            "peerId": OWN,
            "listenAddresses": ["/ip4/0.0.0.0/tcp/30400"],
            "advertisedAddresses": ["/ip4/9.9.9.9/tcp/30400"],
            "peers": "0x2",
            "validatorsConnected": "0x2",
            "validatorsKnown": "0x3",
            "syncing": None,
            "clockSkewMs": 12,
        },
        "astralink_peers": [
            peer(SECOND, now_s - 60, direction="inbound", headNumber=hex(1_000_000), clockSkewMs=None, client="other")
            | {
                "points": 25,
                "isValidator": False,
                "validatorIndex": None,
                "rttMs": None,
                "addresses": ["/ip4/192.0.2.2/tcp/50000"],
            },
            peer(FIRST, now_s - 300),
        ],
        "astralink_netDoctor": {
            "peerId": OWN,
            "genesisHash": "0x" + "ab" * 32,
            "clockSkewMs": 12,
            "clockLimitMs": hex(250),
            "advertisedAddresses": ["/ip4/9.9.9.9/tcp/30400"],
            "peers": [
                {"peerId": each, "genesisMatches": True, "forksMatch": True, "clockSkewMs": 12}
                for each in (FIRST, SECOND)
            ],
            "bootnodes": [],
            "refused": [],
            "dialBack": [
                attempt(FIRST, "reached", None),
                attempt(SECOND, "unanswered", "no answer in time"),
            ],
            "problems": [],
            "notices": [],
        },
    }


def consensus(step: str, explanation: str, now_s: int) -> dict[str, Any]:
    return {
        "number": hex(812),
        "round": "0x0",
        "step": step,
        "proposerIndex": "0x1",
        "lockedRound": -1,
        "lockedHash": None,
        "validRound": -1,
        "validHash": None,
        "totalPower": "0x80",
        "rounds": [],
        "waitingSinceMs": hex(1000 * now_s),
        "isValidator": True,
        "isSigning": True,
        "missing": [],
        "away": [],
        "explanation": explanation,
    }


def stalled(now_s: int) -> dict[str, Any]:
    """In the prevote step of round 3 since twelve seconds, without validator 3."""
    explanation = (
        "height 812 round 3 waits in prevote since 12 s: 1 of 4 validators silent (#3 0xa3a3a3a3.. not connected)"
    )
    return consensus("prevote", explanation, now_s) | {
        "round": "0x3",
        "lockedRound": 2,
        "lockedHash": BLOCK,
        "waitingSinceMs": hex(1000 * (now_s - 12)),
        "rounds": [
            {
                "round": "0x2",
                "proposerIndex": "0x0",
                "prevotes": [votes(BLOCK, 0, 1, 2)],
                "precommits": [votes(None, 1)],
            },
            {
                "round": "0x3",
                "proposerIndex": "0x1",
                "prevotes": [votes(BLOCK, 0, 1), votes(None, 2)],
                "precommits": [],
            },
        ],
        "missing": [
            {
                "index": "0x3",
                "votingKey": "0x" + "a3" * 48,
                "operator": "0x" + "b3" * 20,
                "isSelf": False,
                "isConnected": False,
                "lastVote": None,
                "lastVoteNumber": hex(811),
            }
        ],
    }


def votes(block_hash: str | None, *voters: int) -> dict[str, Any]:
    bitmap = sum(1 << voter for voter in voters)
    return {
        "blockHash": block_hash,
        "power": hex(32 * len(voters)),
        "voters": [hex(voter) for voter in voters],
        "votersBitmap": f"0x{bitmap:02x}",
    }


def peer(peer_id: str, since_s: int, **fields: Any) -> dict[str, Any]:
    return {
        "peerId": peer_id,
        "addresses": ["/ip4/192.0.2.1/tcp/30400"],
        "direction": "outbound",
        "connectedSinceMs": hex(1000 * since_s),
        "headNumber": hex(811),
        "genesisMatches": True,
        "forksMatch": True,
        "clockSkewMs": 1,
        "client": "astralink/test",
        "points": 0,
        "isValidator": True,
        "validatorIndex": "0x2",
        "rttMs": 4,
    } | fields


def attempt(peer_id: str, outcome: str, detail: str | None) -> dict[str, Any]:
    return {"peerId": peer_id, "address": "/ip4/9.9.9.9/tcp/30400", "outcome": outcome, "detail": detail}
