"""The run of a training process: start, log, end."""
