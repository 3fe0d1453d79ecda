"""Why a chain cannot be opened, and what stops it for good."""

from pathlib import Path

from astralink_node.errors import AstraLinkError, UserError


class OtherChain(UserError):
    """The data folder holds a chain that did not start from the genesis file given."""

    def __init__(self, expected: bytes, found: bytes) -> None:
        super().__init__(
            f"the data folder holds another chain: the genesis file given has hash 0x{expected.hex()}, the data folder "
            f"0x{found.hex()}; give the file that the folder was made with, or another folder (--data-dir)"
        )
        self.expected = expected
        self.found = found


class NotInitialised(UserError):
    """The database holds no chain yet."""

    def __init__(self) -> None:
        super().__init__("the data folder holds no chain yet: run `astralink-node init GENESIS_FILE` first")


class ChainInUse(UserError):
    """A node, or another command, has the database open."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"the database in {data_dir} is locked: a node or another command is running on it; stop that first"
        )


class FormatTooNew(UserError):
    """The database was written by a version of the program with another layout."""

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(
            f"the database has format {found}, this program reads format {expected}: use the version of astralink-node "
            "that wrote it, or export the blocks there and import them here"
        )
        self.expected = expected
        self.found = found


class ConflictingCommit(AstraLinkError):
    """Two certificates made two blocks final at one height: the network's fault bound was exceeded. Fatal.

    Nothing is written; the process stops, so that nothing more is signed on either branch.
    """

    def __init__(self, height: int, committed: bytes, asked: bytes) -> None:
        super().__init__(
            f"fatal: block 0x{committed.hex()} is final at height {height}, and a commit of block 0x{asked.hex()} was "
            "asked for: more than a third of the voting power signed two blocks, or a database was mixed up"
        )
        self.height = height
        self.committed = committed
        self.asked = asked


class InvalidCertificate(AstraLinkError):
    """Commit came with a certificate that does not make its block final: a bug of the caller. Fatal."""


class StateIncomplete(AstraLinkError):
    """Block work while a snapshot is being imported: a bug of the caller. Fatal."""
