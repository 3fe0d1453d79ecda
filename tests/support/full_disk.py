"""Runs a devnet on a small file system of its own until that is full, then makes room and starts it again.

Run inside a mount namespace: `unshare --map-root-user --mount python -m tests.support.full_disk FOLDER`. Prints one
JSON object with what happened; the test judges it.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.node_process import NodeFailed, NodeProcess

DISK_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 4096


def fill(path: Path) -> None:
    """Write until the disk takes no more."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(CHUNK_BYTES))
        except OSError:
            return


def main(folder: Path) -> dict[str, object]:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)], check=True)
    arguments = ("devnet", "--dir", str(disk / "net"), "--rpc-port", "0", "--json", "--block-interval-ms", "50")
    with NodeProcess(folder / "log", *arguments) as node:
        node.await_ready()
        node.await_height(3)
        height = node.height()
        block = node.call("eth_getBlockByNumber", hex(height), False)
        fill(disk / "filler")
        code, said = node.await_exit(), node.said()
        node.await_children_gone()
    with NodeProcess(folder / "log", *arguments) as node:
        refused_code, refused = node.await_exit(), node.said()
    (disk / "filler").unlink()
    with NodeProcess(folder / "log", *arguments) as node:
        node.await_ready()
        kept = node.call("eth_getBlockByNumber", hex(height), False) == block
        goes_on = node.ready["headHeight"] + 1
        node.await_height(goes_on)
        node.stop()
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    refusals = [line for line in refused.splitlines() if line.startswith("error: ")]
    return {
        "code": code,
        "errors": errors,
        "refused_code": refused_code,
        "refusals": refusals,
        "tracebacks": said.count("Traceback") + refused.count("Traceback"),
        "kept": kept,
    }


if __name__ == "__main__":
    try:
        print(json.dumps(main(Path(sys.argv[1]))))
    except NodeFailed as failure:
        sys.exit(str(failure))
