"""Export many runs as tables that analysts' tools read: `base` has the schema, and each format has a file."""
