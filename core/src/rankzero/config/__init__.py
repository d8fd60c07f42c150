"""Configuration: arguments, environment variables and config files, and the options of loggers."""
