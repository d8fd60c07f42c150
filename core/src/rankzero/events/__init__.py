"""The events of a run: the lines of its journal."""
