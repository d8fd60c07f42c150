"""MLflow's logged models, each in a directory of the run or experiment that it belongs to."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelParameter, LoggedModelStatus, LoggedModelTag, Metric
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
from mlflow.utils import validation
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.search_utils import SearchLoggedModelsUtils
from mlflow.utils.time import get_current_time_millis

from rankzero.compat.mlflow.experiments import Experiments
from rankzero.compat.mlflow.state import ARTIFACTS, MODELS, texts, uri_of
from rankzero.values import from_json_number, to_json_number


class LoggedModels(Experiments):
    """The methods of a tracking store for logged models."""

    def __init__(self, store_uri: str) -> None:
        super().__init__(store_uri)
        self._model_dirs: dict[str, Path] = {}

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: list[LoggedModelTag] | None = None,
        params: list[LoggedModelParameter] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        validation._validate_logged_model_name(name)
        _check_tags(tags or [])
        checked = _check_params(params or [])
        directory = self.experiment_dir(experiment_id, active=True)
        home = self.run_dir(source_run_id) if source_run_id else directory
        model_id, now = f"m-{uuid.uuid4().hex}", get_current_time_millis()
        about = {
            "experiment_id": experiment_id,
            "name": name or _generate_random_name(),
            "creation_timestamp": now,
            "last_updated_timestamp": now,
            "source_run_id": source_run_id,
            "model_type": model_type,
            "status": str(LoggedModelStatus.PENDING),
        }
        self.state(home / MODELS / model_id).set("info", about)
        self.state(home / MODELS / model_id).set("params", texts(checked))
        self.state(home / MODELS / model_id).set("tags", texts(tags))
        return self.get_logged_model(model_id)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        model_dir = self._model_dir(model_id)
        if self.state(model_dir).is_deleted and not allow_deleted:
            raise _no_model(model_id)
        return self._model(model_dir)

    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        self._update_model(model_id, status=str(status))
        return self.get_logged_model(model_id)

    def delete_logged_model(self, model_id: str) -> None:
        self._update_model(model_id, stage="deleted")

    def log_logged_model_params(self, model_id: str, params: list[LoggedModelParameter]) -> None:
        self.state(self._model_dir(model_id)).set("params", texts(_check_params(params)))

    def set_logged_model_tags(self, model_id: str, tags: list[LoggedModelTag]) -> None:
        _check_tags(tags)
        self.state(self._model_dir(model_id)).set("tags", texts(tags))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        self.state(self._model_dir(model_id)).delete_tag(key)

    def log_model_metric(self, run_id: str, metric: Metric) -> None:
        """Store a metric of a run that names a model as a metric of the model."""
        about = {**dict(metric), "run_id": run_id, "value": to_json_number(float(metric.value))}
        key = " ".join(str(about[each]) for each in ("key", "dataset_name", "dataset_digest", "step", "timestamp"))
        self.state(self._model_dir(metric.model_id)).set("metrics", {key: about})

    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[Any] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> PagedList:
        if not all(each.get("dataset_name") for each in datasets or []):
            raise MlflowException("`datasets` need a `dataset_name`", codes.INVALID_PARAMETER_VALUE)
        runs = self.scan()
        wanted = [self._experiment_dirs[each] for each in experiment_ids if each in self._experiment_dirs]
        found = _models_in(home for directory in wanted for home in (directory, *runs[directory]))
        models = [self._model(each) for each in found if not self.state(each).is_deleted]
        matching = SearchLoggedModelsUtils.filter_logged_models(models, filter_string, datasets)
        limit = max_results or SEARCH_LOGGED_MODEL_MAX_RESULTS_DEFAULT
        ordered = SearchLoggedModelsUtils.sort(matching, order_by)
        return PagedList(*SearchLoggedModelsUtils.paginate(ordered, page_token, limit))

    def _update_model(self, model_id: str, **changes: str) -> None:
        self.get_logged_model(model_id)
        changed = {"last_updated_timestamp": get_current_time_millis(), **changes}
        self.state(self._model_dir(model_id)).set("info", changed)

    def _model_dir(self, model_id: str) -> Path:
        if model_id not in self._model_dirs:
            homes = (home for directory, runs in self.scan().items() for home in (directory, *runs))
            self._model_dirs.update({each.name: each for each in _models_in(homes)})
        if model_id not in self._model_dirs:
            raise _no_model(model_id)
        return self._model_dirs[model_id]

    def _model(self, model_dir: Path) -> LoggedModel:
        state, by_dataset = self.state(model_dir), defaultdict(list)
        for each in state["metrics"].values():
            metric = Metric.from_dictionary({**each, "value": from_json_number(each["value"])})
            by_dataset[metric.key, metric.dataset_name, metric.dataset_digest].append(metric)
        about = {key: value for key, value in state["info"].items() if key != "stage"}
        return LoggedModel(
            **{**about, "status": LoggedModelStatus(about["status"])},
            model_id=model_dir.name,
            artifact_location=uri_of(model_dir / ARTIFACTS),
            tags=dict(state["tags"]),
            params=dict(state["params"]),
            metrics=[max(each, key=lambda metric: (metric.step, metric.timestamp)) for each in by_dataset.values()],
        )


def _models_in(homes: Iterable[Path]) -> Iterator[Path]:
    return (model_dir for home in homes for model_dir in sorted((home / MODELS).glob("m-*")))


def _check_params(params: Iterable[LoggedModelParameter]) -> list[Any]:
    return [validation._validate_param(param.key, param.value) for param in params]


def _check_tags(tags: Iterable[LoggedModelTag]) -> None:
    for tag in tags:
        validation._validate_tag_name(tag.key)


def _no_model(model_id: str) -> MlflowException:
    return MlflowException(f"Model '{model_id}' not found", codes.RESOURCE_DOES_NOT_EXIST)
