"""A stored sweep, and the commands for its agents."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass
class Sweep:
    """One sweep, of ``grid`` or ``random`` parameters, which are not nested.

    Args:
        raw_config: the user's config, as YAML.
    """

    entity: str
    project: str
    id: str
    raw_config: str
    state: str = "RUNNING"
    run_ids: list[str] = field(default_factory=list)
    """The runs for agents to start."""

    def __post_init__(self) -> None:
        self._sets = self._parameter_sets()

    @property
    def config(self) -> dict[str, Any]:
        """The user's config."""
        return yaml.safe_load(self.raw_config)

    def command(self) -> dict[str, Any]:
        """The next command for an idle agent."""
        parameters = next(self._sets, None)
        if parameters is None:
            self.state = "FINISHED"
            return {"type": "exit"}
        self.run_ids.append(f"{self.id}-{len(self.run_ids)}")
        args = {name: {"value": value} for name, value in parameters.items()}
        return {"type": "run", "run_id": self.run_ids[-1], "program": self.config.get("program"), "args": args}

    def _parameter_sets(self) -> Iterator[dict[str, Any]]:
        wanted = self.config["parameters"]
        if self.config["method"] == "grid":
            choices = [each.get("values", [each.get("value")]) for each in wanted.values()]
            return (dict(zip(wanted, values, strict=True)) for values in itertools.product(*choices))
        return ({name: _drawn(each) for name, each in wanted.items()} for _ in itertools.count())


def _drawn(parameter: dict[str, Any]) -> Any:
    if "min" not in parameter:
        return random.choice(parameter.get("values", [parameter.get("value")]))
    draw = random.uniform if isinstance(parameter["min"], float) else random.randint
    return draw(parameter["min"], parameter["max"])
