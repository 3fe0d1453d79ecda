"""The execution facade: building, validating, committing and querying blocks."""
