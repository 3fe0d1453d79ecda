"""Run inside a mount namespace: a devnet on a tmpfs of 12 MB meets a full disk and comes back when there is room.

Prints one JSON object with what happened. Started by tests/integration/test_full_disk.py.
"""

import json
import subprocess
import sys
from pathlib import Path

from astralink_node.chain.check import check_database
from astralink_node.services.data_folder import DataFolder
from astralink_node.storage.leveldb import open_leveldb
from tests.support.node_process import NodeProcess, await_that


def main(place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], check=True)
    chain, log = place / "net", place.parent / "log"
    arguments = ("devnet", "--dir", str(chain), "--rpc-port", "0", "--json", "--block-interval-ms", "50")
    with NodeProcess(log, *arguments).await_ready() as node:
        node.await_height(5)
        height = node.height()
        fill(place / "ballast")
        code = node.await_exit()
        said = node.said()
    (place / "ballast").unlink()
    store = open_leveldb(DataFolder(chain).database, create=False)
    report = check_database(store, lambda *_: None)
    store.close()
    with NodeProcess(log, *arguments).await_ready() as node:
        came_back_at = node.ready["headHeight"]
        await_that(lambda: node.height() > report.head_height, lambda: f"no new block:\n{node.said()}")
        node.stop()
    print(
        json.dumps(
            {
                "exit_code": code,
                "last_line": said.strip().splitlines()[-1],
                "seen_before": height,
                "head_found": report.head_height,
                "problems": report.problems,
                "came_back_at": came_back_at,
            }
        )
    )


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(4096)):
                pass
        except OSError:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
