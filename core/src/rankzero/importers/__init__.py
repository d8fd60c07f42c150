"""Import runs of other tools from disk."""
