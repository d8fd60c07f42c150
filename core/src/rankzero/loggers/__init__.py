"""Loggers and their contract."""
