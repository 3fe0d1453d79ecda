"""Commands: one module a verb group."""
