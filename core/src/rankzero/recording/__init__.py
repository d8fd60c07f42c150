"""The parts of `rankzero.recorder`."""
