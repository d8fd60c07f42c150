"""A stored experiment, and its decoded data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Metric(NamedTuple):
    """One value of a metric; ``time`` in milliseconds."""

    name: str
    value: Any
    """A number, also for ``"NaN"`` and ``"-Infinity"``; other values as sent."""
    step: int | None
    epoch: int | None
    time: int | None
    context: str | None
    sent: Any


class Param(NamedTuple):
    """One value of a parameter; ``time`` in milliseconds."""

    name: str
    value: Any
    step: int | None
    time: int | None
    source: str | None
    context: str | None


class Other(NamedTuple):
    """One value under "Other"; ``time`` in milliseconds."""

    name: str
    value: Any
    time: int | None


class Html(NamedTuple):
    """A piece of HTML."""

    text: str
    override: bool
    time: int | None


class OutputLine(NamedTuple):
    """Console output; ``time`` in milliseconds."""

    text: str
    stderr: bool
    time: int
    offset: int
    context: str | None


class Beat(NamedTuple):
    """A heartbeat; ``time`` in seconds, of the server."""

    alive: bool
    offline: bool
    time: float


@dataclass
class Asset:
    """A file.

    Args:
        fields: all fields, as sent.
    """

    id: str
    experiment_key: str
    name: str
    type: str
    """The type as sent; ``"asset"`` without one, ``"image"`` for a visualization."""
    content: bytes
    fields: dict[str, str]
    step: int | None
    epoch: int | None
    context: str | None
    overwrite: bool
    metadata: Any
    artifact_version_id: str | None
    time: int
    """The time of arrival in milliseconds."""


@dataclass
class StoredExperiment:
    """One experiment. Data that is sent twice is stored twice, unless the client asks to overwrite it."""

    key: str
    workspace: str
    project: str
    created: int
    """In milliseconds, like all times that are integers."""
    offline: bool = False
    metrics: list[Metric] = field(default_factory=list)
    """In order of arrival."""
    param_history: list[Param] = field(default_factory=list)
    other_history: list[Other] = field(default_factory=list)
    added_tags: list[str] = field(default_factory=list)
    pages: list[Html] = field(default_factory=list)
    graph: str | None = None
    output: list[OutputLine] = field(default_factory=list)
    assets: list[Asset] = field(default_factory=list)
    """Files and images, including those of artifacts."""
    beats: list[Beat] = field(default_factory=list)
    is_alive: bool = False
    has_crashed: bool = False
    errors: list[str] = field(default_factory=list)
    notifications: list[dict[str, Any]] = field(default_factory=list)
    started: int | None = None
    ended: int | None = None
    system_details: dict[str, Any] = field(default_factory=dict)
    reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Other data (``"code"``, ``"git/metadata"``, ``"cpu-metrics"``, ``"file-path"``…), as sent."""

    @property
    def run_id(self) -> str:
        return f"run-{self.key}"

    @property
    def project_id(self) -> str:
        return f"project-{self.workspace}-{self.project}"

    @property
    def name(self) -> str | None:
        return self.others.get("Name")

    @property
    def state(self) -> str:
        """``"running"``, ``"finished"`` or ``"crashed"``, as sent last; missing heartbeats do not change it."""
        if self.is_alive:
            return "running"
        return "crashed" if self.has_crashed else "finished"

    @property
    def params(self) -> dict[str, Any]:
        """The last value of each."""
        return {param.name: param.value for param in self.param_history}

    @property
    def others(self) -> dict[str, Any]:
        """The last value of each."""
        return {other.name: other.value for other in self.other_history}

    @property
    def tags(self) -> list[str]:
        """Each tag once, in order of arrival."""
        return list(dict.fromkeys(self.added_tags))

    @property
    def html(self) -> str:
        """All HTML since it was last overwritten."""
        begin = max((number for number, page in enumerate(self.pages) if page.override), default=0)
        return "".join(page.text for page in self.pages[begin:])

    @property
    def images(self) -> list[Asset]:
        return [asset for asset in self.assets if asset.type == "image"]

    def series(self, name: str) -> list[tuple[int | None, Any, int | None]]:
        """Return (step, value, time) of a metric's points, in order of arrival."""
        return [(metric.step, metric.value, metric.time) for metric in self.metrics if metric.name == name]

    def files(self, name: str) -> list[Asset]:
        """Return the files and images with a name, in order of arrival, without those of artifacts."""
        return [asset for asset in self.assets if asset.name == name and asset.artifact_version_id is None]

    def add_asset(self, asset: Asset) -> None:
        """Store a file; replace those with the same name and type if the client asks for it."""
        if asset.overwrite:
            self.assets = [kept for kept in self.assets if not _is_replaced(kept, asset)]
        self.assets.append(asset)


def as_metric(sent: dict[str, Any]) -> Metric:
    """Decode a value of a metric, from a batch or a single request."""
    value = sent["metricValue"]
    return Metric(
        sent["metricName"],
        _number(value),
        sent.get("step"),
        sent.get("epoch"),
        sent.get("timestamp"),
        sent.get("context"),
        value,
    )


def as_param(sent: dict[str, Any]) -> Param:
    """Decode a value of a parameter, from a batch or a single request."""
    return Param(
        sent["parameterName"],
        sent["parameterValue"],
        sent.get("step"),
        sent.get("timestamp"),
        sent.get("source"),
        sent.get("context"),
    )


def _number(sent: Any) -> Any:
    """Decode a number, which is a text if it is not finite."""
    return float(sent) if sent in ("NaN", "Infinity", "-Infinity") else sent


def _is_replaced(kept: Asset, asset: Asset) -> bool:
    return (kept.name, kept.type, kept.artifact_version_id) == (asset.name, asset.type, asset.artifact_version_id)
