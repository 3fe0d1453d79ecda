"""How the state tells that the database under it is damaged."""

from astralink_node.storage.store import DatabaseDamaged


class StateDamaged(DatabaseDamaged):
    """An entry of the state is missing, or is not the one that its parent, up to the state root, commits to."""

    def __init__(self, entry: str, expected: str, found: str) -> None:
        super().__init__(f"the state is damaged at {entry}: expected {expected}, found {found}")
        self.entry = entry
        self.expected = expected
        self.found = found
