"""The JSON of the REST API: numbers as text, times in milliseconds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from servers.comet_mock.experiment import Asset, Metric, StoredExperiment

Value = tuple[str, Any, int | None, int | None]
"""Name, value, time and step."""


def experiment_view(experiment: StoredExperiment) -> dict[str, Any]:
    """Return the metadata of an experiment."""
    file_path = experiment.reports.get("file-path", [{}])[-1].get("filePath")
    return {
        "experimentKey": experiment.key,
        "experimentName": experiment.name,
        "workspaceName": experiment.workspace,
        "projectName": experiment.project,
        "projectId": experiment.project_id,
        "running": experiment.is_alive,
        "hasCrashed": experiment.has_crashed,
        "archived": False,
        "throttle": False,
        "startTimeMillis": experiment.started or experiment.created,
        "endTimeMillis": experiment.ended,
        "durationMillis": 0,
        "optimizationId": None,
        "filePath": file_path,
        "fileName": file_path and file_path.rpartition("/")[2],
    }


def metric_view(metric: Metric) -> dict[str, Any]:
    """Return one value of a metric."""
    return {
        "metricName": metric.name,
        "metricValue": _text(metric.sent),
        "timestamp": metric.time,
        "step": metric.step,
        "epoch": metric.epoch,
        "runContext": metric.context,
    }


def summary_views(values: Iterable[Value]) -> list[dict[str, Any]]:
    """Return the last, minimum and maximum value of each name."""
    by_name: dict[str, list[Value]] = {}
    for value in values:
        by_name.setdefault(value[0], []).append(value)
    return [_summary(name, found) for name, found in by_name.items()]


def asset_view(asset: Asset) -> dict[str, Any]:
    """Return the JSON of a file."""
    return {
        "assetId": asset.id,
        "experimentKey": asset.experiment_key,
        "artifactVersionId": asset.artifact_version_id,
        "fileName": asset.name,
        "fileSize": len(asset.content),
        "type": asset.type,
        "step": asset.step,
        "epoch": asset.epoch,
        "runContext": asset.context,
        "metadata": asset.metadata,
        "remote": False,
        "link": None,
        "createdAt": asset.time,
        "dir": asset.fields.get("groupingName", asset.type),
        "image": asset.type == "image",
        "audio": asset.type == "audio",
        "video": asset.type == "video",
        "histogram": asset.type == "histogram3d",
    }


def _summary(name: str, values: list[Value]) -> dict[str, Any]:
    numbers = [value for value in values if _is_finite(value[1])] or values[-1:]
    by_value = sorted(numbers, key=lambda value: value[1]) if len(numbers) > 1 else numbers
    summary: dict[str, Any] = {"name": name, "editable": False}
    for which, (_, value, time, step) in (("Min", by_value[0]), ("Max", by_value[-1]), ("Current", values[-1])):
        summary |= {f"value{which}": _text(value), f"timestamp{which}": time, f"step{which}": step}
    return summary


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
