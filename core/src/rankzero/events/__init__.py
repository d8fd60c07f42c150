"""The lines of a journal."""
