"""The CSV logger."""
