"""The chain's own contracts: Vyper sources, what they compile to, and how to talk to them."""
