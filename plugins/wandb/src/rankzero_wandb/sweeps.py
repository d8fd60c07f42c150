"""What a sweep's agent wants a run to try."""

from __future__ import annotations

import os
from typing import Any


def sweep_parameters() -> dict[str, Any]:
    """Return the parameters that the agent of a W&B sweep has chosen for this process; none without an agent.

    A training script that logs through `rankzero.start` finds them here, where others look into ``wandb.config``,
    unless it takes them from its command line.
    """
    path = os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if not path:
        return {}
    import yaml

    with open(path, encoding="utf-8") as file:
        found = yaml.safe_load(file)
    return {name: each["value"] for name, each in found.items() if isinstance(each, dict) and "value" in each}
