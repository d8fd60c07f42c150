"""MLflow's experiments are the projects in a directory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlflow import entities
from mlflow.entities import ExperimentTag, LifecycleStage, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT, SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils import validation
from mlflow.utils.search_utils import SearchExperimentsUtils, SearchUtils
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.uri import resolve_uri_if_local

from rankzero.compat.mlflow.state import MODELS, STATE, State, path_of, texts, uri_of
from rankzero.importers.writing import project_name
from rankzero.journal.opening import has_journal
from rankzero.rundir.finding import make_runs_directory
from rankzero.rundir.layout import JOURNALS

_DEFAULT_PROJECT, _DEFAULT_ID = "default", "0"  # MLflow's experiment "Default"


class Experiments(AbstractStore):  # type: ignore[misc]  # to mypy, MLflow is Any
    """The methods of a tracking store for experiments, and the directories of their runs.

    Args:
        store_uri: ``rankzero:DIRECTORY``.
    """

    def __init__(self, store_uri: str) -> None:
        super().__init__()
        self.root = path_of(store_uri)
        self._experiment_dirs: dict[str, Path] = {}
        self._run_dirs: dict[str, Path] = {}
        self._states: dict[Path, State] = {}

    def scan(self) -> dict[Path, list[Path]]:
        """Return the directory of each experiment, with the directories of its runs."""
        found: dict[Path, list[Path]] = {self.root / _DEFAULT_PROJECT: []}
        for parent, folders, files in os.walk(self.root):
            if not JOURNALS.isdisjoint(files):
                found.setdefault(Path(parent).parent, []).append(Path(parent))
                folders.clear()
            elif STATE in files:
                found.setdefault(Path(parent), [])
            folders[:] = [each for each in folders if each != MODELS]
        self._experiment_dirs = {self.id_of(each): each for each in found}
        self._run_dirs = {run_dir.name: run_dir for run_dirs in found.values() for run_dir in run_dirs}
        return found

    def project_of(self, directory: Path) -> str:
        """Return the project of an experiment's directory."""
        return directory.relative_to(self.root).as_posix()

    def id_of(self, directory: Path) -> str:
        """Return the id of the experiment in a directory; the same on each machine."""
        project = self.project_of(directory)
        hashed = int(hashlib.sha256(project.encode()).hexdigest(), 16) % 10**18
        return _DEFAULT_ID if project == _DEFAULT_PROJECT else str(hashed)

    def experiment_dir(self, experiment_id: str | None, *, active: bool = False) -> Path:
        """Return the directory of an experiment; ``active``: raise an error if it was deleted."""
        wanted = _DEFAULT_ID if experiment_id is None else str(experiment_id)
        if wanted not in self._experiment_dirs:
            self.scan()
        if wanted not in self._experiment_dirs:
            raise MlflowException(f"Could not find experiment with ID {wanted}", codes.RESOURCE_DOES_NOT_EXIST)
        directory = self._experiment_dirs[wanted]
        if active and self.state(directory).is_deleted:
            raise MlflowException(f"The experiment {wanted} is deleted", codes.INVALID_STATE)
        return directory

    def run_dir(self, run_id: str) -> Path:
        """Return the directory of a run."""
        validation._validate_run_id(run_id)
        if not has_journal(Path(self._run_dirs.get(run_id, ""))):
            self.scan()
        if run_id not in self._run_dirs:
            raise MlflowException(f"Run '{run_id}' not found", codes.RESOURCE_DOES_NOT_EXIST)
        return self._run_dirs[run_id]

    def run_dirs(self, experiment_ids: Sequence[str]) -> list[Path]:
        """Return the directories of all runs of some experiments."""
        found = self.scan()
        directories = [self._experiment_dirs[each] for each in experiment_ids if each in self._experiment_dirs]
        return [run_dir for directory in directories for run_dir in found[directory]]

    def state(self, directory: Path) -> State:
        """Return MLflow's data of the experiment, run or model in a directory."""
        return self._states.setdefault(directory, State(directory))

    # Methods of AbstractStore

    def _experiment(self, directory: Path) -> entities.Experiment:
        state, project = self.state(directory), self.project_of(directory)
        info = state["info"]
        changed = int(directory.stat().st_mtime * 1000) if directory.exists() else 0
        default_name = entities.Experiment.DEFAULT_EXPERIMENT_NAME if project == _DEFAULT_PROJECT else project
        return entities.Experiment(
            self.id_of(directory),
            info.get("name", default_name),
            info.get("artifact_location", uri_of(directory)),
            info.get("stage", LifecycleStage.ACTIVE),
            [ExperimentTag(key, value) for key, value in state["tags"].items()],
            info.get("created", changed),
            info.get("updated", changed),
        )

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = SEARCH_MAX_RESULTS_DEFAULT,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList:
        check_limit(max_results)
        stages = LifecycleStage.view_type_to_stages(view_type)
        experiments = [each for each in map(self._experiment, self.scan()) if each.lifecycle_stage in stages]
        matching = SearchExperimentsUtils.filter(experiments, filter_string)
        ordered = SearchExperimentsUtils.sort(matching, order_by or ["creation_time DESC", "experiment_id ASC"])
        return PagedList(*SearchUtils.paginate(ordered, page_token, max_results))

    def get_experiment(self, experiment_id: str | None) -> entities.Experiment:
        return self._experiment(self.experiment_dir(experiment_id))

    def get_experiment_by_name(self, experiment_name: str) -> entities.Experiment | None:
        is_default = experiment_name == _DEFAULT_PROJECT
        name = entities.Experiment.DEFAULT_EXPERIMENT_NAME if is_default else experiment_name
        return next((each for each in map(self._experiment, self.scan()) if each.name == name), None)

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Sequence[ExperimentTag] | None = None
    ) -> str:
        self._check_new_name(name)
        if artifact_location:
            validation._validate_experiment_artifact_location_length(artifact_location)
        for tag in tags or []:
            validation._validate_experiment_tag(tag.key, tag.value)
        directory, taken = self.root / project_name(name), self.scan()
        while directory in taken:  # by a renamed experiment
            directory = directory.with_name(directory.name + "-2")
        make_runs_directory(self.root)
        now = get_current_time_millis()
        location = resolve_uri_if_local(artifact_location) if artifact_location else None
        about = {"name": name, "artifact_location": location, "created": now, "updated": now}
        self.state(directory).set("info", about)
        self.state(directory).set("tags", texts(tags))
        self._experiment_dirs[self.id_of(directory)] = directory
        return self.id_of(directory)

    def _check_new_name(self, name: str) -> None:
        validation._validate_experiment_name(name)
        if (existing := self.get_experiment_by_name(name)) is not None:
            raise MlflowException(
                f"Experiment {name!r} already exists, and is {existing.lifecycle_stage}", codes.RESOURCE_ALREADY_EXISTS
            )

    def delete_experiment(self, experiment_id: str) -> None:
        if str(experiment_id) == _DEFAULT_ID:
            raise MlflowException("The default experiment cannot be deleted")
        self._move_experiment(experiment_id, LifecycleStage.ACTIVE, LifecycleStage.DELETED)

    def restore_experiment(self, experiment_id: str) -> None:
        self._move_experiment(experiment_id, LifecycleStage.DELETED, LifecycleStage.ACTIVE)

    def _move_experiment(self, experiment_id: str, before: str, after: str) -> None:
        directory = self.experiment_dir(experiment_id)
        if self._experiment(directory).lifecycle_stage != before:
            raise MlflowException(f"The experiment {experiment_id} is {after} already", codes.RESOURCE_DOES_NOT_EXIST)
        for each in (directory, *self.scan()[directory]):
            self.state(each).set("info", {"stage": after, "updated": get_current_time_millis()})

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        directory = self.experiment_dir(experiment_id, active=True)
        self._check_new_name(new_name)
        self.state(directory).set("info", {"name": new_name, "updated": get_current_time_millis()})

    def set_experiment_tag(self, experiment_id: str, tag: ExperimentTag) -> None:
        validation._validate_experiment_tag(tag.key, tag.value)
        self.state(self.experiment_dir(experiment_id, active=True)).set("tags", texts([tag]))

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        self.state(self.experiment_dir(experiment_id, active=True)).delete_tag(key)


def check_limit(max_results: Any) -> None:
    """Raise MlflowException if MLflow does not allow this number of results."""
    if not isinstance(max_results, int) or not 1 <= max_results <= SEARCH_MAX_RESULTS_THRESHOLD:
        raise MlflowException(
            f"max_results must be a whole number from 1 to {SEARCH_MAX_RESULTS_THRESHOLD}, not {max_results!r}",
            codes.INVALID_PARAMETER_VALUE,
        )
