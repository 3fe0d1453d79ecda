"""Delete a devnet's folder, unless a node runs on it or it is no devnet's folder."""

import shutil
import sys
from pathlib import Path

from astralink_node.errors import AstraLinkError
from astralink_node.services.data_folder import DataFolder, FolderLock


def main(name: str) -> int:
    folder = DataFolder(Path(name))
    if not folder.root.exists():
        print(f"there is no {name}; `make devnet` starts a new chain")
        return 0
    if not folder.lock_file.exists():
        print(f"{name} is no devnet's folder: not deleted", file=sys.stderr)
        return 1
    try:
        with FolderLock(folder):
            shutil.rmtree(folder.root)
    except AstraLinkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{name} is deleted; `make devnet` starts a new chain")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
