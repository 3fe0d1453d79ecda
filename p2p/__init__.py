"""The peer-to-peer room: opaque bytes between nodes; it knows nothing of blocks. Filled by the network work."""
