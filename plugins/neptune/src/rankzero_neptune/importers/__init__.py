"""The rescue: what Neptune's clients and its exporter left on disk, read as runs."""
