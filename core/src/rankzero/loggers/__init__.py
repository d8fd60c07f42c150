"""Loggers: the base class, the built-in CSV logger, and helpers for authors of plugins."""
