"""Importers of runs that Neptune's clients and exporter left on disk."""
