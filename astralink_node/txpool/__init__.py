"""The mempool: admission rules and the bounded pool; no I/O."""
