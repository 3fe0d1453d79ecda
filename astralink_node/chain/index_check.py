"""`db check` of the explorer index: a covered block's entries name at least what body and receipts tell of it."""

from collections.abc import Iterator

from astralink_node.chain.explorer_coverage import covers, load_coverage
from astralink_node.chain.explorer_index import load_appearance_list, load_creation, outlined_block
from astralink_node.chain.ledger import Ledger
from astralink_node.chain.records import encode_position
from astralink_node.storage import keys
from astralink_node.storage.store import Reader


def index_problems(reader: Reader, ledger: Ledger, height: int) -> Iterator[str]:
    """What is wrong with the entries of a block; nothing if the index does not cover it.

    Internal calls are not looked for: that would mean executing the block.
    """
    if not covers(load_coverage(reader), height):
        return
    block = outlined_block(ledger, height)
    for index, ((sender, nonce), appearances) in enumerate(zip(block.nonces, block.appearances, strict=True)):
        if reader.get(keys.sender_nonce_key(sender, nonce)) != encode_position(height, index):
            yield f"the explorer index does not name transaction {index} by its sender and nonce"
        for address in appearances.addresses:
            if index not in keys.decode_positions(reader.get(keys.appearance_key(address, height)) or b""):
                yield f"the explorer index does not name transaction {index} at address 0x{address.hex()}"
    for listed in load_appearance_list(reader, height):
        if reader.get(keys.appearance_key(listed, height)) is None:
            yield f"the explorer index lists address 0x{listed.hex()}, which has no entry"
        creation = load_creation(reader, listed)
        if creation is not None and creation.height == height and creation.index >= len(block.nonces):
            yield f"the explorer index names a transaction that is not there as creator of 0x{listed.hex()}"
