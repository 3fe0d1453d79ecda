"""Database keys, LevelDB, the in-memory store and the write-ahead log."""
