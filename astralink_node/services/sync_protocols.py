"""The protocols by which nodes catch up, with what one peer may ask of each."""

from typing import Final

from astralink_node.state.snapshot_chunks import MAX_CHUNK_BYTES
from consensus.sync_wire import MANIFEST_PART_BYTES, MAX_BLOCKS_REPLY_BYTES, MAX_LIGHT_BLOCK_BYTES
from p2p.request_protocol import RequestProtocol

BLOCKS: Final = RequestProtocol("/astralink/blocks/1", 16, MAX_BLOCKS_REPLY_BYTES, rate=8, burst=32)
LIGHT_BLOCK: Final = RequestProtocol("/astralink/light-block/1", 16, MAX_LIGHT_BLOCK_BYTES, rate=8, burst=64)
MANIFEST: Final = RequestProtocol("/astralink/snapshot-manifest/1", 16, MANIFEST_PART_BYTES + 16, rate=4, burst=40)
CHUNK: Final = RequestProtocol("/astralink/snapshot-chunk/1", 128, MAX_CHUNK_BYTES, rate=16, burst=64)
