"""What `devnet` prints: a first screen for people, 80 columns wide, or one JSON object for scripts.

Balances and fees are read from the node as any client would; without an answer the screen says what genesis says.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from astralink_node.cli.amounts import WEI_PER_BWT
from astralink_node.cli.block_watch import Rpc, gwei
from astralink_node.cli.rpc_client import NodeUnreachable, NotServed, RequestFailed
from astralink_node.config import NodeConfig
from astralink_node.crypto.addresses import checksum_address
from genesis.dev_accounts import DEVNET_ACCOUNTS, DEVNET_MNEMONIC
from genesis.devnet_terms import DEVNET_BALANCE_WEI
from genesis.schema import GenesisFile

DERIVATION_PATH: Final = "m/44'/60'/0'/0/0 to 9"
_LABEL_COLUMNS: Final = 16
TITLE: Final = "AstraLink devnet"


@dataclass(frozen=True, slots=True)
class ChainNow:
    """What changes from start to start."""

    head_height: int
    next_base_fee_wei: int
    gas_limit: int
    balances_wei: tuple[int, ...]
    """Of DEVNET_ACCOUNTS, in their order."""


def chain_at_genesis(genesis: GenesisFile) -> ChainNow:
    return ChainNow(0, genesis.base_fee_wei, genesis.fees.gas_limit, (DEVNET_BALANCE_WEI,) * len(DEVNET_ACCOUNTS))


def read_chain(client: Rpc, genesis: GenesisFile) -> ChainNow:
    """The chain now; as it was at genesis where the node serves no `eth` or is about to stop."""
    try:
        head = client.call("eth_getBlockByNumber", "latest", False)  # noqa: FBT003
        return ChainNow(
            head_height=int(head["number"], 16),
            next_base_fee_wei=int(client.call("eth_baseFee"), 16),
            gas_limit=int(head["gasLimit"], 16),
            balances_wei=tuple(
                int(client.call("eth_getBalance", f"0x{account.address.hex()}", "latest"), 16)
                for account in DEVNET_ACCOUNTS
            ),
        )
    except (NodeUnreachable, NotServed, RequestFailed):
        return chain_at_genesis(genesis)


# --- For people ----------------------------------------------------------------------------------------------------


def screen(node: Mapping[str, Any], genesis: GenesisFile, config: NodeConfig, now: ChainNow, *, unlocked: bool) -> str:
    """Of a devnet of one validator. `node` is the object of its ready line; `unlocked`: it signs for the accounts."""
    rows = [
        ("RPC URL", node["rpcUrl"]),
        ("WebSocket URL", node["wsUrl"]),
        *_chain_rows(genesis, config, now),
        ("Validator", f"0x{genesis.validators[0].voting_key.hex()[:40]}..."),
        ("Data folder", node["dataDir"]),
    ]
    last_line = "Ctrl-C stops the node and keeps its chain."
    return _screen(TITLE, rows, "", str(node["rpcUrl"]), now, last_line, unlocked=unlocked)


def network_screen(
    nodes: Sequence[Mapping[str, Any]],
    folder: str,
    voting_keys: Sequence[bytes],
    genesis: GenesisFile,
    config: NodeConfig,
    now: ChainNow,
    *,
    unlocked: bool,
) -> str:
    """Of several validators. Beside the ready lines' fields each of `nodes` has `p2pAddress`."""
    listed = "".join(
        f"  ({number}) {node['rpcUrl']}  0x{key.hex()[:16]}...\n      {node['dataDir']}\n      {node['p2pAddress']}\n"
        for number, (node, key) in enumerate(zip(nodes, voting_keys, strict=True))
    )
    rows = [*_chain_rows(genesis, config, now), ("Folder", folder)]
    middle = f"\nNodes, a process each: RPC URL, voting key; folder; where others connect\n{listed}"
    title = f"{TITLE} of {len(nodes)} validators"
    last_line = "Ctrl-C stops all of them and keeps their chain."
    return _screen(title, rows, middle, str(nodes[0]["rpcUrl"]), now, last_line, unlocked=unlocked)


def _chain_rows(genesis: GenesisFile, config: NodeConfig, now: ChainNow) -> list[tuple[str, str]]:
    begun = datetime.fromtimestamp(genesis.timestamp).astimezone()
    return [
        ("Chain id", str(genesis.chain_id)),
        ("Base fee", gwei(now.next_base_fee_wei)),
        ("Gas limit", f"{now.gas_limit:,}"),
        ("Genesis", f"{genesis.timestamp} ({begun:%Y-%m-%d %H:%M:%S})"),
        ("Head", f"block {now.head_height}"),
        ("Blocks", pace(config)),
    ]


def pace(config: NodeConfig) -> str:
    """When blocks are made."""
    interval, blocks = _seconds(config.blocks.interval_ms), config.blocks
    if not blocks.interval_ms or (blocks.builds_on_demand and not blocks.empty):
        return "at once when a transaction comes"
    if blocks.builds_on_demand:
        return f"at once when a transaction comes, and every {interval}"
    return f"every {interval}" if blocks.empty else f"every {interval} if a transaction waits"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:g} s"


def _screen(
    title: str,
    rows: Sequence[tuple[str, str]],
    middle: str,
    rpc_url: str,
    now: ChainNow,
    last_line: str,
    *,
    unlocked: bool,
) -> str:
    facts = "\n".join(f"  {label:<{_LABEL_COLUMNS}}{text}" for label, text in rows)
    accounts = "\n".join(
        f"  ({number}) {checksum_address(account.address)}  {_whole_bwt(balance_wei)}"
        for number, (account, balance_wei) in enumerate(zip(DEVNET_ACCOUNTS, now.balances_wei, strict=True))
    )
    keys = "\n".join(f"  ({number}) 0x{account.private_key.hex()}" for number, account in enumerate(DEVNET_ACCOUNTS))
    receiver = checksum_address(DEVNET_ACCOUNTS[1].address)
    sender = DEVNET_ACCOUNTS[0]
    signer = f"--private-key 0x{sender.private_key.hex()}"
    faucet = ""
    if unlocked:
        signer = f"--from {checksum_address(sender.address)} --unlocked"
        faucet = f"  astralink-node faucet ADDRESS --rpc-url {rpc_url}\n"
    return f"""
{title}

{facts}
{middle}
Accounts
{accounts}

Private keys: known to everybody, so never send real funds to these accounts
{keys}

  Mnemonic        {DEVNET_MNEMONIC}
  Derivation      {DERIVATION_PATH}

Try next
  cast send {receiver} --value 1ether \\
    {signer} \\
    --rpc-url {rpc_url}
{faucet}  astralink-node watch --rpc-url {rpc_url}
  curl -s -H 'content-type: application/json' {rpc_url} \\
    -d '{{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}}'

{last_line}
"""


def _whole_bwt(wei: int) -> str:
    """To four decimals, rounded down: what an account spent on gas may show, its wei need not."""
    whole, fraction = divmod(wei, WEI_PER_BWT)
    return f"{whole:>9,}.{fraction * 10_000 // WEI_PER_BWT:04} BWT"


# --- For scripts ---------------------------------------------------------------------------------------------------


def machine_line(nodes: Sequence[Mapping[str, Any]], genesis: GenesisFile, config: NodeConfig) -> str:
    """The first node's line, with the accounts; with all nodes where there are several."""
    shown = {
        **nodes[0],
        "validators": [f"0x{validator.voting_key.hex()}" for validator in genesis.validators],
        "accounts": [
            {"address": checksum_address(account.address), "privateKey": f"0x{account.private_key.hex()}"}
            for account in DEVNET_ACCOUNTS
        ],
        "mnemonic": DEVNET_MNEMONIC,
        "blockIntervalMs": config.blocks.interval_ms,
        "blocksOnDemand": config.blocks.builds_on_demand,
    }
    return json.dumps(shown if len(nodes) == 1 else {**shown, "nodes": list(nodes)})
