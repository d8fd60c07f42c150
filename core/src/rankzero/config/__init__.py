"""Configuration: arguments, environment variables and config files, and the options of loggers."""

INTEGRATIONS = "RANKZERO_INTEGRATIONS"
"""The variable that names frameworks: see `rankzero.integrations`."""
