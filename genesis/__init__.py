"""The genesis file: its schema, its presets and the block that it defines."""
