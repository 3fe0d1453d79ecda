"""Long-lived trio tasks of the node process, one a module."""
