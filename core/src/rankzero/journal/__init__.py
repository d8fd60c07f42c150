"""The journal of a run: append to it, read it, wait for more."""
