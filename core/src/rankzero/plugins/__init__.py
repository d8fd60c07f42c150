"""Plugins: hooks, entry points, registry."""
