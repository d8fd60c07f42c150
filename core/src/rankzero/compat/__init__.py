"""Modules with the API of another tool: code that was written for it logs to a run, unchanged.

Each module is imported only when asked for.
"""
