"""Importing what other tools left."""
