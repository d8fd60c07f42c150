"""Front doors that look like another tool: code that was written for it logs to a run, unchanged.

Each module is imported only when asked for.
"""
