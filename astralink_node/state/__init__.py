"""Flat state, block overlays, the batched trie, reverse diffs and proofs."""
