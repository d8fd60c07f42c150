"""`RankzeroStore`: MLflow's experiments and runs are projects and runs of rankzero."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from mlflow import entities
from mlflow.entities import LifecycleStage, Metric, Param, RunStatus, RunTag
from mlflow.entities.run_info import check_run_is_active
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils import mlflow_tags, validation
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import append_to_uri_path

from rankzero.compat.mlflow.experiments import check_limit
from rankzero.compat.mlflow.models import LoggedModels
from rankzero.compat.mlflow.state import ARTIFACTS, path_of, texts, uri_of
from rankzero.compat.mlflow.writing import begin, find_open, logging_to, writer
from rankzero.errors import RankzeroError
from rankzero.events.structs import Artifact, Metrics
from rankzero.events.trust import LATEST
from rankzero.journal.opening import has_journal, stat_journal
from rankzero.reader.run_data import RunData, read_run
from rankzero.reader.series import Series
from rankzero.run.run import Run
from rankzero.rundir.finding import run_status
from rankzero.rundir.layout import JOURNAL
from rankzero.values import flatten, to_int, to_json_number

_STATUSES = {"FINISHED": "success", "KILLED": "aborted", "FAILED": "failed"}
_MLFLOW_STATUSES = {
    **{ours: theirs for theirs, ours in _STATUSES.items()},
    **{"finished": "FINISHED", "killed": "KILLED", "crashed": "FAILED", "running": "RUNNING", "unknown": "RUNNING"},
}
_MASKED = "***"
_LAST_MILLISECOND = int(LATEST * 1000) - 1  # that an event can have


class RankzeroStore(LoggedModels):
    """A tracking store of MLflow whose experiments are the projects in a directory, and whose runs are rankzero's.

    Runs that `rankzero.start` made are shown, too. On other ranks than zero, and if rankzero is disabled, runs exist
    only in memory.

    Args:
        store_uri: ``rankzero:DIRECTORY``.
    """

    def __init__(self, store_uri: str) -> None:
        super().__init__(store_uri)
        self._params: dict[Path, dict[str, str]] = {}
        self._ended: dict[Path, tuple[tuple[int, int], entities.Run]] = {}
        self._in_memory: dict[str, entities.Run] = {}

    # Runs

    def create_run(
        self,
        experiment_id: str | None,
        user_id: str | None,
        start_time: int | None,
        tags: Sequence[RunTag] | None,
        run_name: str | None,
    ) -> entities.Run:
        directory, named = self.experiment_dir(experiment_id, active=True), texts(tags)
        tagged = named.get(mlflow_tags.MLFLOW_RUN_NAME)
        if run_name and tagged and run_name != tagged:
            raise MlflowException(
                f"run_name={run_name!r} differs from the tag mlflow.runName={tagged!r}", codes.INVALID_PARAMETER_VALUE
            )
        name = named[mlflow_tags.MLFLOW_RUN_NAME] = run_name or tagged or _generate_random_name()
        run_dir = directory / uuid.uuid4().hex
        begin(
            run_dir, self.project_of(directory), self.root, name=name, tags=_labels(named) or None, resume="never",
            notes=named.get(mlflow_tags.MLFLOW_RUN_NOTE), parent=named.get(mlflow_tags.MLFLOW_PARENT_RUN_ID),
        )  # fmt: skip
        about = {"user": user_id or "", "start_time": to_int(start_time) or get_current_time_millis()}
        if not has_journal(run_dir):
            return self._run_in_memory(run_dir, named, about)
        self.state(run_dir).set("info", about)
        self.state(run_dir).set("tags", named)
        self._run_dirs[run_dir.name] = run_dir
        return self._run(run_dir)

    def _run_in_memory(self, run_dir: Path, tags: Mapping[str, str], about: Mapping[str, Any]) -> entities.Run:
        info = entities.RunInfo(
            run_dir.name, self.id_of(run_dir.parent), about["user"], "RUNNING", about["start_time"], None,
            LifecycleStage.ACTIVE, uri_of(run_dir / ARTIFACTS), tags[mlflow_tags.MLFLOW_RUN_NAME],
        )  # fmt: skip
        data = entities.RunData(tags=[RunTag(key, value) for key, value in tags.items()])
        return self._in_memory.setdefault(run_dir.name, entities.Run(info, data))

    def get_run(self, run_id: str) -> entities.Run:
        return self._in_memory.get(run_id) or self._run(self.run_dir(run_id))

    def _run(self, run_dir: Path) -> entities.Run:
        state = self.state(run_dir)
        sizes = (stat_journal(run_dir / JOURNAL).st_size, state.size())
        known = self._ended.get(run_dir)
        if known is not None and known[0] == sizes:
            return known[1]
        read = _read(run_dir)
        tags = state["tags"] if "user" in state["info"] else {**_tags_of(read), **state["tags"]}
        run = entities.Run(
            self._run_info(run_dir, read, tags),
            entities.RunData(
                [_latest(name, series) for name, series in read.metrics.items()],
                [Param(key, value) for key, value in _params_of(read).items()],
                [RunTag(key, value) for key, value in tags.items()],
            ),
            entities.RunInputs(
                [_dataset_input(each) for each in state["datasets"].values()],
                [entities.LoggedModelInput(model_id) for model_id in state["models"]],
            ),
            entities.RunOutputs([entities.LoggedModelOutput(*each) for each in state["outputs"].items()]),
        )
        if read.finished is not None:
            self._ended[run_dir] = (sizes, run)
        return run

    def _run_info(self, run_dir: Path, read: RunData, tags: Mapping[str, str]) -> entities.RunInfo:
        info = self.state(run_dir)["info"]
        status = info.get("status") or _MLFLOW_STATUSES.get(read.status, "FAILED")
        ended = None if status == "RUNNING" else round((read.finished or read.updated) * 1000)
        # The files of a run that MLflow did not start are in several directories.
        files = uri_of(run_dir / ARTIFACTS if "user" in info else run_dir)
        if location := self.state(run_dir.parent)["info"].get("artifact_location"):
            files = append_to_uri_path(location, run_dir.name, ARTIFACTS)
        return entities.RunInfo(
            run_dir.name,
            self.id_of(run_dir.parent),
            info.get("user", ""),
            status,
            info.get("start_time", round(read.started * 1000)),
            info.get("end_time", ended),
            info.get("stage", LifecycleStage.ACTIVE),
            files,
            tags.get(mlflow_tags.MLFLOW_RUN_NAME) or info.get("name") or read.info.name,
        )

    def _active_run_dir(self, run_id: str) -> Path:
        run_dir = self.run_dir(run_id)
        if self.state(run_dir).is_deleted:
            check_run_is_active(self._run(run_dir).info)
        return run_dir

    def update_run_info(
        self, run_id: str, run_status: int | None, end_time: int | None, run_name: str | None
    ) -> entities.RunInfo:
        if run_id in self._in_memory:
            return self._in_memory[run_id].info
        run_dir, end_time = self._active_run_dir(run_id), to_int(end_time)
        state, known = self.state(run_dir), self._run(run_dir).info
        if run_name:
            state.set("tags", {mlflow_tags.MLFLOW_RUN_NAME: run_name})
        if run_status is None and end_time is None:
            return self._run(run_dir).info
        status = known.status if run_status is None else RunStatus.to_string(run_status)
        if status in _STATUSES:
            if (status, end_time) != (known.status, known.end_time):
                self._end(run_dir, status, end_time)
        elif known.status != "RUNNING" or (run_status is not None and find_open(run_dir) is not None):
            writer(run_dir)
            state.set("info", {"status": None, "end_time": end_time})
        return self._run(run_dir).info

    def _end(self, run_dir: Path, status: str, end_time: int | None) -> None:
        run, state = find_open(run_dir), self.state(run_dir)
        if run is None and "status" not in state["info"] and run_status(run_dir) in ("failed", "aborted"):
            return  # the process has ended it, with the right status: MLflow does not see exceptions
        if run is None and state["info"].get("status", status) != status:
            run = writer(run_dir)
        state.set("info", {"status": status, "end_time": end_time})
        self._params.pop(run_dir, None)
        if run is not None:
            run.finish(_STATUSES[status])

    def delete_run(self, run_id: str) -> None:
        self.state(self.run_dir(run_id)).set("info", {"stage": LifecycleStage.DELETED})

    def restore_run(self, run_id: str) -> None:
        self.state(self.run_dir(run_id)).set("info", {"stage": LifecycleStage.ACTIVE})

    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: int,
        max_results: int,
        order_by: list[str] | None,
        page_token: str | None,
    ) -> tuple[list[entities.Run], str | None]:
        check_limit(max_results)
        stages = LifecycleStage.view_type_to_stages(run_view_type)
        runs = []
        for run_dir in self.run_dirs(experiment_ids):
            with suppress(MlflowException):  # a run that is just beginning
                runs.append(self._run(run_dir))
        matching = SearchUtils.filter([run for run in runs if run.info.lifecycle_stage in stages], filter_string)
        ordered = SearchUtils.sort(matching, order_by)
        page: tuple[list[entities.Run], str | None] = SearchUtils.paginate(ordered, page_token, max_results)
        return page

    # Data of a run

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> None:
        metrics, params, tags = validation._validate_batch_log_data(metrics, params, tags)
        validation._validate_batch_log_limits(metrics, params, tags)
        validation._validate_param_keys_unique(params)
        if run_id in self._in_memory:
            return
        run_dir = self._active_run_dir(run_id)
        if params:
            self._log_params(run_dir, texts(params))
        if metrics:
            with logging_to(run_dir) as run:
                self._log_metrics(run, [_in_whole_steps(metric) for metric in metrics])
        if tags:
            self.state(run_dir).set("tags", texts(tags))
            if (labels := _labels(texts(tags))) and (known := find_open(run_dir)) is not None:
                known.log_tags(labels)

    def _log_params(self, run_dir: Path, params: Mapping[str, str]) -> None:
        if run_dir not in self._params:
            self._params[run_dir] = _params_of(_read(run_dir))
        known = self._params[run_dir]
        for key, value in params.items():
            if known.get(key, value) not in (value, _MASKED):
                raise MlflowException(
                    f"Changing param values is not allowed. The param {key!r} of the run {run_dir.name!r} is "
                    f"{known[key]!r}, not {value!r}",
                    codes.INVALID_PARAMETER_VALUE,
                )
        if new := {key: _typed(value) for key, value in params.items() if key not in known}:
            with logging_to(run_dir) as run:
                run.log_hyperparams(new)
            known.update(params)

    def _log_metrics(self, run: Run, metrics: Sequence[Metric]) -> None:
        for (timestamp, step), together in groupby(metrics, lambda metric: (metric.timestamp, metric.step)):
            values: dict[str, Any] = {}
            for metric in together:
                if metric.key in values:
                    run.record(Metrics(timestamp / 1000, step, values))
                    values = {}
                values[metric.key] = to_json_number(float(metric.value))
            run.record(Metrics(timestamp / 1000, step, values))
        for metric in metrics:
            if metric.model_id is not None:
                self.log_model_metric(run.id, metric)

    def delete_tag(self, run_id: str, key: str) -> None:
        if run_id not in self._in_memory:
            run_dir = self._active_run_dir(run_id)
            if key == mlflow_tags.MLFLOW_RUN_NAME:
                self.state(run_dir).set("info", {"name": self._run(run_dir).info.run_name})
            self.state(run_dir).delete_tag(key)

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> PagedList:
        validation._validate_metric_name(metric_key)
        if run_id in self._in_memory:
            return PagedList([], None)
        run_dir = self.run_dir(run_id)
        series = _metrics(run_dir, stat_journal(run_dir / JOURNAL).st_size).get(metric_key)
        history = [] if series is None else [_point(metric_key, series, index) for index in range(len(series))]
        if max_results is not None:
            return PagedList(*SearchUtils.paginate(history, page_token, max_results))
        return PagedList(history[SearchUtils.parse_start_offset_from_page_token(page_token) :], None)

    # Datasets and models of a run

    def log_inputs(
        self,
        run_id: str,
        datasets: list[entities.DatasetInput] | None = None,
        models: list[entities.LoggedModelInput] | None = None,
    ) -> None:
        if run_id in self._in_memory:
            return
        state = self.state(self._active_run_dir(run_id))
        new = {f"{each.dataset.name} {each.dataset.digest}": each.to_dictionary() for each in datasets or []}
        state.set("datasets", {key: value for key, value in new.items() if key not in state["datasets"]})
        state.set("models", {each.model_id: True for each in models or []})

    def log_outputs(self, run_id: str, models: list[entities.LoggedModelOutput]) -> None:
        if run_id not in self._in_memory:
            self.state(self._active_run_dir(run_id)).set("outputs", {each.model_id: each.step for each in models})

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        if run_id not in self._in_memory:
            state = self.state(self._active_run_dir(run_id))
            models = json.loads(state["tags"].get(mlflow_tags.MLFLOW_LOGGED_MODELS, "[]"))
            state.set("tags", {mlflow_tags.MLFLOW_LOGGED_MODELS: json.dumps([*models, mlflow_model.get_tags_dict()])})

    def finalize_logged_model(self, model_id: str, status: entities.LoggedModelStatus) -> entities.LoggedModel:
        model = super().finalize_logged_model(model_id, status)
        files = path_of(model.artifact_location)
        if model.source_run_id and status == entities.LoggedModelStatus.READY and files.exists():
            run_dir = self.run_dir(model.source_run_id)
            path = files.relative_to(run_dir).as_posix()
            with logging_to(run_dir) as run:
                run.record(Artifact(time.time(), path, model.name, "model"))
        return model

    def _search_datasets(self, experiment_ids: Sequence[str]) -> list[entities._DatasetSummary]:
        found = {}
        for run_dir in self.run_dirs(experiment_ids):
            for each in map(_dataset_input, self.state(run_dir)["datasets"].values()):
                contexts = [tag.value for tag in each.tags if tag.key == mlflow_tags.MLFLOW_DATASET_CONTEXT]
                about = (self.id_of(run_dir.parent), each.dataset.name, each.dataset.digest, *(contexts or [None])[:1])
                found[about] = entities._DatasetSummary(*about)
        return list(found.values())

    def search_traces(self, *arguments: Any, **named_arguments: Any) -> tuple[list[Any], str | None]:
        return [], None


class NotKeptError(MlflowException, NotImplementedError):  # type: ignore[misc]
    """A run of rankzero cannot keep this."""


def _refuse_the_rest() -> None:
    """Make MLflow's optional methods raise an error that says what to do."""
    for name in dir(AbstractStore):
        method = getattr(AbstractStore, name)
        is_optional = "NotImplementedError" in getattr(getattr(method, "__code__", None), "co_names", ())
        if is_optional and getattr(RankzeroStore, name) is method:
            setattr(RankzeroStore, name, _refusal(name))


def _refusal(name: str) -> Any:
    def refuse(self: RankzeroStore, *arguments: Any, **named_arguments: Any) -> Any:
        raise NotKeptError(
            f"{name}() needs a server of MLflow: runs of rankzero keep metrics, params, tags, artifacts, datasets and "
            "models, but no traces, assessments, prompts or evaluation datasets",
            codes.NOT_IMPLEMENTED,
        )

    return refuse


_refuse_the_rest()


def _read(run_dir: Path) -> RunData:
    try:
        return read_run(run_dir)
    except RankzeroError as error:
        raise MlflowException(str(error), codes.RESOURCE_DOES_NOT_EXIST) from error


@lru_cache(maxsize=4)
def _metrics(run_dir: Path, size: int) -> Mapping[str, Series]:
    """Return the metrics of a run whose journal has ``size`` bytes: MLflow asks for one metric after the other."""
    return _read(run_dir).metrics


def _labels(tags: Mapping[str, str]) -> list[str]:
    """Return tags as rankzero has them, without values; those that MLflow itself sets are left out."""
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    return [key if value in ("", "true") else f"{key}={value}" for key, value in own.items()]


def _tags_of(read: RunData) -> dict[str, str]:
    """Return the tags of a run that MLflow did not start."""
    about = {
        "group": read.info.group,
        mlflow_tags.MLFLOW_PARENT_RUN_ID: read.info.parent,
        mlflow_tags.MLFLOW_RUN_NAME: read.info.name,
        mlflow_tags.MLFLOW_RUN_NOTE: read.info.notes,
        mlflow_tags.MLFLOW_SOURCE_NAME: read.info.program,
        mlflow_tags.MLFLOW_SOURCE_TYPE: read.info.program and "LOCAL",
    }
    return dict.fromkeys(read.tags, "true") | {key: value for key, value in about.items() if value}


def _params_of(read: RunData) -> dict[str, str]:
    return {key: str(value) for key, value in flatten(read.params)}


def _typed(text: str) -> Any:
    """Return the number, boolean or None that MLflow's client converted to a text; other texts unchanged."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and abs(value) < 2**53:
            return value
    return text


def _dataset_input(kept: Mapping[str, Any]) -> entities.DatasetInput:
    tags = [entities.InputTag(key, value) for key, value in kept["tags"].items()]
    return entities.DatasetInput(entities.Dataset(**kept["dataset"]), tags)


def _in_whole_steps(metric: Metric) -> Metric:
    """Return a metric whose step and time are ints, as in MLflow's databases; the client accepts any numbers."""
    timestamp = min(to_int(metric.timestamp) or 0, _LAST_MILLISECOND)
    return Metric(**{**dict(metric), "timestamp": timestamp, "step": to_int(metric.step) or 0})


def _point(name: str, series: Series, index: int) -> Metric:
    step = series.step[index]
    whole = 0 if step != step else int(step)  # a point without a step has NaN
    return Metric(name, float(series.value[index]), round(series.time[index] * 1000), whole)


def _latest(name: str, series: Series) -> Metric:
    """Return the value that MLflow shows of a metric: the last one at the greatest step."""
    greatest = max(series.step)
    points = [_point(name, series, index) for index, step in enumerate(series.step) if step == greatest]
    return max(points or [_point(name, series, len(series) - 1)], key=lambda point: (point.timestamp, point.value))
