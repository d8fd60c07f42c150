"""`compare`: what differs between runs: parameters, environment, code, packages, and their metrics side by side."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rankzero.capture.environment import Environment, read_environment
from rankzero.errors import RankzeroError
from rankzero.files.writing import inside, open_regular
from rankzero.reader.index.summary import MetricSummary, RunSummary, goal_of
from rankzero.values import flatten, to_jsonable

_MOST_BYTES = 1 << 24  # of a list of packages, or a diff

_FIELDS: dict[str, Callable[[Environment], Any]] = {
    "command": lambda found: " ".join(found.argv),
    "host": lambda found: found.host,
    "user": lambda found: found.user,
    "working directory": lambda found: found.cwd,
    "Python": lambda found: found.python,
    "torch": lambda found: found.torch,
    "processor": lambda found: found.cpu,
    "processors": lambda found: found.cpus,
    "memory": lambda found: found.memory,
    "GPUs": lambda found: ", ".join(found.gpus),
    "git commit": lambda found: found.git and found.git.commit,
    "git branch": lambda found: found.git and found.git.branch,
}

Values = dict[str, list[Any]]
"""Name → the value of each run; None where a run has none."""


@dataclass(frozen=True)
class Comparison:
    """What differs between runs, in their order."""

    runs: Sequence[RunSummary]
    params: Values
    """The parameters that differ."""
    same_params: int
    """How many do not."""
    environment: Values
    """What differs of machine, command line, versions and git."""
    packages: Values
    """The versions of packages that differ."""
    metrics: dict[str, list[MetricSummary | None]]

    def goal(self, metric: str) -> str | None:
        """Return ``minimize``, ``maximize`` or None."""
        return goal_of(metric, (run.definitions for run in self.runs))

    def best(self, metric: str) -> list[float | None]:
        """Return each run's best value of a metric; None if its goal is unknown."""
        which = {"minimize": "min", "maximize": "max"}.get(self.goal(metric) or "")
        return [getattr(each, which) if each and which else None for each in self.metrics[metric]]


def compare(runs: Sequence[RunSummary]) -> Comparison:
    """Compare runs."""
    params = _side_by_side([dict(flatten(run.params)) for run in runs])
    differing = _differing(params)
    environments = [read_environment(run.dir) for run in runs]
    return Comparison(
        runs=runs,
        params=differing,
        same_params=len(params) - len(differing),
        environment=_differing(_side_by_side(list(map(_described, runs, environments)))),
        packages=_differing(_side_by_side(list(map(_packages, runs, environments)))),
        metrics=_side_by_side([run.metrics for run in runs]),
    )


def _side_by_side(each: Sequence[Mapping[str, Any]]) -> Values:
    names = dict.fromkeys(name for one in each for name in one)
    return {name: [one.get(name) for one in each] for name in names}


def _differing(values: Values) -> Values:
    return {name: each for name, each in values.items() if len(set(map(_text, each))) > 1}


def _text(value: Any) -> bytes:
    return msgspec.json.encode(to_jsonable(value))


def _described(run: RunSummary, found: Environment | None) -> dict[str, Any]:
    if found is None:
        return {}
    described = {name: value or None for name, field in _FIELDS.items() for value in (field(found),)}
    return {**described, "uncommitted changes": _changes(run, found)}


def _changes(run: RunSummary, found: Environment) -> str | None:
    """Return how many lines of the code were changed, and a checksum that differs if the changes do."""
    if found.git is None or not found.git.dirty:
        return None
    diff = _read(run.dir, found.git.diff) if found.git.diff else b""
    lines = sum(line[:1] in (b"+", b"-") and line[:3] not in (b"+++", b"---") for line in diff.split(b"\n"))
    return f"{lines} {'line' if lines == 1 else 'lines'} ({zlib.crc32(diff):08x})" if diff else "yes"


def _packages(run: RunSummary, found: Environment | None) -> dict[str, str]:
    lines = _read(run.dir, found.packages).decode(errors="replace").splitlines() if found and found.packages else []
    return {name: version for name, separator, version in (line.partition("==") for line in lines) if separator}


def _read(run_dir: Path, path: str) -> bytes:
    try:
        with open_regular(inside(run_dir, path)) as file:
            return file.read(_MOST_BYTES)
    except (OSError, RankzeroError):
        return b""
