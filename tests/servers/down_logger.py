"""Loggers whose tracker is down, which couriers can import."""

import time

from rankzero import Logger
from rankzero.errors import TrackerUnavailableError


class DownLogger(Logger):
    """Its tracker refuses every connection."""

    name = "down"
    version = "0"

    def __init__(self, number: int = 0):
        self.number = number

    def log_metrics(self, metrics, step=None):
        raise TrackerUnavailableError("connection refused")

    def log_hyperparams(self, params, *args, **kwargs):
        raise TrackerUnavailableError("connection refused")


class HangingLogger(DownLogger):
    """Its tracker accepts connections and never answers."""

    def log_metrics(self, metrics, step=None):
        time.sleep(3600)

    def log_hyperparams(self, params, *args, **kwargs):
        time.sleep(3600)
