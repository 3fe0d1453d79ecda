"""Native precompiles behind the standard addresses."""
