"""Writes down what happens in a run."""
