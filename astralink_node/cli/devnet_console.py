"""What a devnet prints once it runs: the first screen, and its blocks if they are watched."""

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import click

from astralink_node.cli.block_watch import view_for, watch
from astralink_node.cli.devnet_screen import ChainNow, machine_line, read_chain
from astralink_node.cli.rpc_client import NotServed, RpcClient
from astralink_node.config import NodeConfig
from genesis.schema import GenesisFile

CONSOLE_STOP_S: Final = 2.0
"""A thread that waits for the stopped node's answer is left behind after this; it holds nothing."""


class Console:
    """Prints the first screen, and the blocks if they are watched, in a thread of its own.

    Both ask the node over its RPC, and the node of one validator runs in this process's main thread.
    """

    def __init__(self, *, is_watching: bool, as_json: bool) -> None:
        self._is_watching = is_watching
        self._as_json = as_json
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Show nothing more. What is said afterwards begins on a line of its own."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(CONSOLE_STOP_S)

    def show(
        self,
        nodes: Sequence[Mapping[str, Any]],
        genesis: GenesisFile,
        config: NodeConfig,
        text: Callable[[ChainNow], str],
    ) -> None:
        """`nodes` are the objects of the ready lines; the first is the one that is asked."""
        if self._as_json:
            click.echo(machine_line(nodes, genesis, config))
        client = RpcClient(str(nodes[0]["rpcUrl"]))

        def run() -> None:
            if not self._as_json:
                click.echo(text(read_chain(client, genesis)))
            if self._is_watching:
                try:
                    view = view_for(sys.stdout, as_json=self._as_json)
                    watch(client, view, self._stop, says_if_lost=False)
                except NotServed as error:
                    click.echo(f"--watch: {error}", err=True)

        self._thread = threading.Thread(target=run, name="console", daemon=True)
        self._thread.start()
