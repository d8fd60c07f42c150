"""MLflow's own measurements of the machine: CPU, memory, disk, network, GPUs."""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any

_SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_LIVE = 60.0
"""Seconds: of what is delivered later than this nobody can measure the machine any more."""


class SystemMetrics:
    """Measures while a run is being logged, in a thread of MLflow's.

    Args:
        wanted: whether to; the environment decides if None.

    Raises:
        ModuleNotFoundError: psutil is missing.
    """

    def __init__(self, wanted: bool | None) -> None:
        self._wanted = os.environ.get(_SWITCH, "").lower() in ("true", "1") if wanted is None else wanted
        if self._wanted and importlib.util.find_spec("psutil") is None:
            raise ModuleNotFoundError('log_system_metrics needs psutil: pip install "rankzero-mlflow[system]"')
        self._monitor: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_monitor": None}

    def start(self, run_id: str, tracking_uri: str, moment: float) -> None:
        """Begin, unless it has begun or ``moment``, in Unix seconds, is long past."""
        if not self._wanted or self._monitor is not None or time.time() - moment > _LIVE:
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=tracking_uri)
        self._monitor.start()

    def stop(self) -> None:
        """End, and send what was measured."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
