"""Consensus rules as pure values and functions: no I/O, no clock, no signing or verifying."""
