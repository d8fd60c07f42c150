"""Capture console output, the environment, values on a GPU, and histograms of a model."""
