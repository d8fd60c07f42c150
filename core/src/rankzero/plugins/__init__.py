"""Plugins: find them by their entry points, load loggers, call hooks."""
