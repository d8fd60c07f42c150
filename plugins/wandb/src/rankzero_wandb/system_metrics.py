"""Send system metrics of the journal as W&B's own, which it shows on a separate tab."""

from __future__ import annotations

import re
from typing import Any

from rankzero.events.run_info import SYSTEM, MetricsRow

_BYTES, _MEGABYTES = 1e9, 1e9 / (1 << 20)
_NAMES = {
    r"memory_percent": ("memory_percent", 1.0),
    r"network_sent_gb": ("network.sent", _BYTES),
    r"network_received_gb": ("network.recv", _BYTES),
    r"process/memory_gb": ("proc.memory.rssMB", _MEGABYTES),
    r"gpu(\d+)/utilization_percent": (r"gpu.\1.gpu", 1.0),
    r"gpu(\d+)/memory_percent": (r"gpu.\1.memoryAllocated", 1.0),
    r"gpu(\d+)/memory_gb": (r"gpu.\1.memoryAllocatedBytes", _BYTES),
    r"gpu(\d+)/power_watts": (r"gpu.\1.powerWatts", 1.0),
    r"gpu(\d+)/temperature_celsius": (r"gpu.\1.temp", 1.0),
}
"""Name → name in W&B, and the factor that converts the value to W&B's unit."""


def send_system_metrics(run: Any, row: MetricsRow) -> None:
    """Send a row with W&B's client, with the time of the row."""
    interface = run._interface
    stats = interface._make_stats(dict(_in_wandb(name, value) for name, value in row.values.items()))
    stats.timestamp.FromMicroseconds(round(row.context.time * 1e6))
    interface._publish(interface._make_record(stats=stats))


def _in_wandb(name: str, value: float) -> tuple[str, float]:
    name = name.removeprefix(SYSTEM)
    if match := re.fullmatch(r"(node\d+)/(.+)", name):
        known, value = _in_wandb(match[2], value)
        return f"{known}/l:{match[1]}", value  # as W&B's client does for nodes that have labels
    for pattern, (known, units) in _NAMES.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(known), value * units
    return name.replace("/", "."), value
