"""The run of a training process."""
