"""`Run`, with the API of W&B's run, which logs to a run of rankzero; and `init`, which begins it."""

from __future__ import annotations

import glob
import os
import re
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn

from rankzero.compat.wandb.artifact import Artifact
from rankzero.compat.wandb.mappings import Config, Error, Named, Summary, UsageError, as_mapping
from rankzero.compat.wandb.media import is_metric, write
from rankzero.events.run_info import RunInfo
from rankzero.integrations.lazy_run import start_in_training
from rankzero.messages import OnceWarner, describe, did_you_mean, warn_user
from rankzero.processes import environment_of, ipython_shell
from rankzero.rank import is_rank_zero
from rankzero.run.run import Run as RankzeroRun
from rankzero.values import as_list, as_names, flatten, to_int

DEFAULTS = "config-defaults.yaml"
"""A file in the working directory with default values for the config of `init`."""
FILES = "run-files"
"""The directory in a run's directory whose files are logged when the run ends."""

_NUMBERS = (float, int)
_NOTHING: Mapping[str, Any] = {}
_STATUSES = {0: "success", 255: "aborted"}
_OFFLINE = ("offline", "dryrun")
_MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
_ALERT_PAUSE = 60.0  # seconds in which an alert with the same title is not repeated

current: Run | None = None
"""The open run of `init`."""
start_settings: dict[str, Any] = {}
"""Arguments of `rankzero.start` for all runs, which have precedence."""


class Settings(SimpleNamespace):
    """W&B's settings: `init` uses those that its arguments could set."""


class Run(Named):
    """A run with the attributes and methods of W&B's; only rank zero logs.

    Args:
        run: the run of rankzero to log to.
        asked: the arguments of `init`.
    """

    def __init__(self, run: RankzeroRun, asked: Mapping[str, Any]) -> None:
        self.rankzero_run = run
        """The run of rankzero."""
        self.resumed = run.resumed
        self.config = Config(run.log_hyperparams, bool(asked["allow_val_change"]))
        self.summary = Summary(self._log_summary)
        self.entity, self.job_type, self.group = asked["entity"], asked["job_type"], asked["group"]
        self.disabled, self.offline = asked["mode"] == "disabled", asked["mode"] in _OFFLINE
        self.start_time, self.sweep_id = time.time(), None
        self.step = run.step + 1
        """The step of the next row."""
        self._name: str | None = None
        self._notes: str | None = asked["notes"]
        self._tags: tuple[str, ...] = tuple(asked["tags"] or ())
        self._row = 0  # the step of the current row
        self._axis: str | None = None
        self._last = 0  # its last value
        self._metrics: set[str] = set()
        self._saved: dict[Path, tuple[str, Any]] = {}
        self._alerts: dict[str, float] = {}
        self._dir: Path | None = None
        self._warner = OnceWarner()
        run.call_at_end(self._log_files)

    # Identity; on other ranks it may need a request to rank zero

    @property
    def id(self) -> str:
        return self.rankzero_run.id

    @property
    def project(self) -> str:
        return self.rankzero_run.project

    @property
    def path(self) -> str:
        return "/".join(each for each in (self.entity, self.project, self.id) if each)

    @property
    def url(self) -> str:
        return self.rankzero_run.dir.as_uri()

    def get_url(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self._name or self.rankzero_run.name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        self._warner.warn("name", f"the run keeps the name {self.rankzero_run.name}; write init(name={name!r})")
        self.rankzero_run.log_text("name", name)

    @property
    def notes(self) -> str | None:
        return self._notes

    @notes.setter
    def notes(self, notes: str) -> None:
        self._notes = notes
        self.rankzero_run.log_text("notes", notes)

    @property
    def tags(self) -> tuple[str, ...]:
        return self._tags

    @tags.setter
    def tags(self, tags: Sequence[str]) -> None:
        self.rankzero_run.log_tags([tag for tag in tags if tag not in self._tags])
        self._tags = tuple(tags)

    @property
    def dir(self) -> str:
        """A directory whose files are logged when the run ends."""
        if self._dir is None:
            is_kept = self.rankzero_run.dir.is_dir()
            self._dir = self.rankzero_run.dir / FILES if is_kept else Path(tempfile.mkdtemp(prefix="rankzero-"))
            self._dir.mkdir(exist_ok=True)
        return str(self._dir)

    # Values

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None, **wrong: Any) -> None:
        """Log values at a step, at once.

        Args:
            data: name → number, text, media, or a nested mapping, which is flattened with ``.``.
            step: the step; by default that of the current row, or the value of the x-axis of ``*``, if one is defined.
                Unlike in W&B it may go back.
            commit: whether the next call has the next step; by default True without ``step``.
            **wrong: other arguments, which cause a warning.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"log() needs a mapping from name to value, not {type(data).__name__}")
        for name in wrong:
            hint = did_you_mean(name, ("data", "step", "commit"))
            self._warner.warn(f"argument {name}", f"log() has no argument {name!r}.{hint}")
        given = to_int(step)
        if given is None and step is not None:
            self._warner.warn("step", f"log(step={step!r}): this is not a number, so the values get the next step")
            step = None
        self._row = self.step if given is None else given
        self.step = max(self.step, self._row)
        if commit or (commit is None and step is None):
            self.step += 1
        if self._axis is not None and given is None:
            on_axis = to_int(data.get(self._axis))
            self._row = self._last = self._last if on_axis is None else on_axis
        if all(value.__class__ in _NUMBERS for value in data.values()):
            numbers, others = data, _NOTHING
        else:
            numbers, others = _split(flatten(data, "."))
        self._metrics.update(numbers)
        self.summary.note(numbers)
        self._write(numbers, others)

    def _write(self, numbers: Mapping[str, Any], others: Mapping[str, Any]) -> None:
        if numbers:
            self.rankzero_run.log_metrics(numbers, self._row)
        if not others or self.disabled or not is_rank_zero():
            return
        for key, value in others.items():
            try:
                write(self.rankzero_run, key, value, self._row, self._warner)
            except Exception as error:
                self._warner.warn(f"log {key}", f"{key!r} could not be logged: {describe(error)}")

    def _log_summary(self, values: Mapping[str, Any]) -> None:
        """Log values set in the summary, except those of metrics that the script logs."""
        named = ((f"summary/{key}" if key in self._metrics else key, value) for key, value in values.items())
        self._write(*_split(named))

    def define_metric(
        self, name: str, step_metric: Any = None, step_sync: bool | None = None, hidden: bool | None = None,
        summary: str | None = None, goal: str | None = None, overwrite: bool | None = None,
    ) -> None:  # fmt: skip
        """Set the x-axis and the summary of a metric; an x-axis of all metrics, ``*``, has the steps of the run."""
        self._axis = step_metric if name == "*" else self._axis
        self.rankzero_run.define_metric(name, step_metric, summary, goal)

    def watch(
        self, models: Any, criterion: Any = None, log: str | None = "gradients", log_freq: int = 1000,
        idx: int | None = None, log_graph: bool = False,
    ) -> None:  # fmt: skip
        """Log histograms of one or several torch models."""
        for model in models if isinstance(models, list | tuple) else [models]:
            self.rankzero_run.watch(model, log, log_freq, log_graph)

    def unwatch(self, models: Any = None) -> None:
        """Stop watching models, by default all."""
        for model in models if isinstance(models, list | tuple) else [models]:
            self.rankzero_run.unwatch(model)

    def alert(self, title: str, text: str = "", level: Any = None, wait_duration: Any = None) -> None:
        """Send a message to the user; another one with the same title only after ``wait_duration``."""
        pause = getattr(wait_duration, "total_seconds", lambda: wait_duration)()
        now = time.monotonic()
        if now - self._alerts.get(title, float("-inf")) >= (_ALERT_PAUSE if pause is None else pause):
            self._alerts[title] = now
            self.rankzero_run.alert(title, text, level or "INFO")

    # Files

    def log_artifact(
        self, artifact_or_path: Any, name: str | None = None, type: str | None = None,
        aliases: Sequence[str] | None = None, tags: Sequence[str] | None = None,
    ) -> Artifact:  # fmt: skip
        """Log an artifact, a file, a directory, or the URI of external data."""
        artifact = artifact_or_path
        if not isinstance(artifact, Artifact):
            path = os.fspath(artifact)
            artifact = Artifact(name or f"run-{self.id}-{os.path.basename(path)}", type or "unspecified")
            add = artifact.add_dir if os.path.isdir(path) else artifact.add_file
            (artifact.add_reference if "://" in path else add)(path)
        artifact.aliases = as_list(aliases) or ["latest"]
        given = {"description": artifact.description, "tags": as_list(tags)}
        metadata = artifact.metadata | {key: value for key, value in given.items() if value}
        self.rankzero_run.log_artifact(artifact.directory, artifact.name, artifact.type, artifact.aliases, metadata)
        return artifact

    def link_artifact(self, *_: Any, **__: Any) -> None:
        """Do nothing, with a warning: only W&B has a registry of artifacts."""
        self._warner.warn("link", "rankzero.compat.wandb links no artifacts; log_artifact() logs them, with aliases")

    def log_model(self, path: Any, name: str | None = None, aliases: Sequence[str] | None = None) -> None:
        """Log a file or directory as an artifact of the type ``model``."""
        self.log_artifact(path, name, "model", aliases)

    def save(self, glob_str: Any = None, base_path: Any = None, policy: str = "live") -> list[str]:
        """Log files, named by their paths from ``base_path``.

        Args:
            glob_str: a path or pattern.
            base_path: by default the working directory, or the file's directory if the path is absolute.
            policy: ``now``; ``end`` to log them when the run ends; or ``live`` for both, if they change.
        """
        pattern = os.fspath(glob_str or "")
        base = base_path or (os.path.dirname(pattern) if os.path.isabs(pattern) else ".")
        found = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
        for path in found:
            name = os.path.relpath(path, base)
            if policy != "end":
                self.rankzero_run.log_artifact(path, name)
            if policy != "now":
                self._saved[Path(path).absolute()] = (name, None if policy == "end" else _state(path))
        return found

    def _log_files(self, status: str) -> None:
        """Log the files in `dir`, and changed saved files, at the end of the run."""
        _forget(self)
        found = [] if self._dir is None else self._dir.rglob("*")
        kept = {path: (os.path.relpath(path, self.dir), None) for path in found}
        for path, (name, state) in {**kept, **self._saved}.items():
            if path.is_file() and state != _state(path):
                self.rankzero_run.log_artifact(path, name)

    def use_artifact(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: artifacts are read from W&B."""
        raise refusal("use_artifact()")

    # The end

    def mark_preempting(self) -> None:
        """Do nothing: a run that is killed is recorded as such, and can be resumed."""

    def log_code(self, *_: Any, **__: Any) -> None:
        """Do nothing: a run records its script and the state of git."""

    def _label(self, *_: Any, **__: Any) -> None:
        """Do nothing; integrations call this with their names."""

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run, as a success unless ``exit_code`` is another than 0."""
        _forget(self)
        self.rankzero_run.finish(None if exit_code is None else _STATUSES.get(exit_code, "failed"))

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _forget(self)
        self.rankzero_run.__exit__(kind, error, traceback)


def _split(values: Iterable[tuple[str, Any]]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the numbers among values, and the other values except None."""
    pairs = [(key, value, is_metric(value)) for key, value in values]
    numbers = {key: value for key, value, is_number in pairs if is_number}
    return numbers, {key: value for key, value, is_number in pairs if not is_number and value is not None}


def _state(path: str | os.PathLike[str]) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size


def _forget(run: Run) -> None:
    global current
    if current is run:
        current = None


def refusal(what: str) -> UsageError:
    """Return the error for a call that needs W&B's servers."""
    return UsageError(
        f"rankzero.compat.wandb has no {what}: it writes runs, and does not read from W&B. Use the package wandb for "
        "that, or rankzero.read_run() for runs of rankzero"
    )


def started(what: str) -> Run:
    """Return the current run.

    Raises:
        Error: there is none.
    """
    if current is None:
        raise Error(f"call wandb.init() before wandb.{what}")
    return current


# Starting a run

_VARIABLES = {
    "project": "WANDB_PROJECT", "name": "WANDB_NAME", "notes": "WANDB_NOTES", "tags": "WANDB_TAGS",
    "group": "WANDB_RUN_GROUP", "run_id": "WANDB_RUN_ID", "dir": "WANDB_DIR", "resume": "WANDB_RESUME",
    "mode": "WANDB_MODE", "entity": "WANDB_ENTITY", "job_type": "WANDB_JOB_TYPE",
}  # fmt: skip
"""Argument → W&B's environment variable; rankzero's variable for the same has precedence."""
_SETTINGS = {
    "name": "run_name", "notes": "run_notes", "tags": "run_tags", "group": "run_group", "job_type": "run_job_type",
    "dir": "root_dir",
}  # fmt: skip
"""Argument → name in W&B's settings, if it differs."""
_FOR_TRACKERS = ("entity", "job_type")
_WITHOUT_EFFECT = {"monitor_gym", "sync_tensorboard", "tensorboard"}
_MOMENT = re.compile(r"(.+)\?_step=(\d{1,18})")
_KNOWN = _WITHOUT_EFFECT | {"fork_from", "resume_from", "allow_val_change", "anonymous", "force", "magic", "save_code"}


def init(
    entity: str | None = None, project: str | None = None, dir: str | os.PathLike[str] | None = None,
    id: str | None = None, name: str | None = None, notes: str | None = None, tags: Sequence[str] | None = None,
    config: Any = None, *, group: str | None = None, job_type: str | None = None, mode: str | None = None,
    reinit: bool | str | None = None, resume: bool | str | None = None, settings: Any = None,
    config_exclude_keys: Collection[str] | None = None, config_include_keys: Collection[str] | None = None,
    **others: Any,
) -> Run:  # fmt: skip
    """Begin a run, or return the open run unless ``reinit`` requests a new one.

    If the trackers cannot be used, the run is kept on disk, with a warning.

    Raises:
        ConfigError: an argument is invalid.
        UsageError: the mode is unknown, or ``fork_from`` or ``resume_from`` is not a step of a run.
        TypeError: the config is not a mapping.
        RunNotFoundError: the run of ``resume="must"``, ``fork_from`` or ``resume_from`` does not exist.
    """
    global current
    given = {
        "entity": entity, "project": project, "dir": dir, "run_id": id, "name": name, "notes": notes, "tags": tags,
        "group": group, "job_type": job_type, "mode": mode, "resume": resume,
    }  # fmt: skip
    asked = {key: _chosen(key, value, settings) for key, value in given.items()}
    asked["moment"] = _moment(**{key: others.get(key) for key in ("fork_from", "resume_from")})
    if asked["mode"] not in (None, *_MODES):
        raise UsageError(f"there is no mode {asked['mode']!r}.{did_you_mean(str(asked['mode']), _MODES)}")
    if asked["mode"] == "shared":
        warn_user("rankzero.compat.wandb.init() takes mode='shared' as 'online': processes cannot share a run")
    params = as_mapping(DEFAULTS) if os.path.exists(DEFAULTS) else {}
    for key, value in as_mapping(config or {}).items():
        if key not in (config_exclude_keys or ()) and key in (config_include_keys or (key,)):
            params[key] = value
    if unknown := others.keys() - _KNOWN:
        raise TypeError(f"init() has no argument {', '.join(sorted(unknown))}")
    if ignored := [name for name in others if name in _WITHOUT_EFFECT and others[name]]:
        is_other_door = "sync_tensorboard" in ignored
        hint = "; RANKZERO_INTEGRATIONS=tensorboard logs what a SummaryWriter writes" if is_other_door else ""
        warn_user(f"rankzero.compat.wandb.init() does nothing for {', '.join(ignored)}{hint}")
    if current is not None and reinit != "create_new":
        if reinit not in (True, "finish_previous") and (reinit or not ipython_shell()):
            name = current.rankzero_run.name
            warn_user(f"init() returns the run {name}, which has not ended; finish() it before, or give reinit")
            return current
        current.finish()
    run = _begin(asked | {"allow_val_change": others.get("allow_val_change", ipython_shell() is not None)})
    current = current or run
    run.config.update(params)
    return run


def _chosen(name: str, value: Any, settings: Any) -> Any:
    """Return an argument, else its value in W&B's settings, or in the environment."""
    if value is None and settings is not None:
        value = (settings if isinstance(settings, Mapping) else vars(settings)).get(_SETTINGS.get(name, name))
    if value is not None or os.environ.get(f"RANKZERO_{name.upper()}"):
        return value
    return os.environ.get(_VARIABLES[name]) or None


def _moment(fork_from: str | None, resume_from: str | None) -> dict[str, Any]:
    """Return the arguments of `rankzero.start` for a step of a run, ``RUN?_step=N``."""
    if not (text := fork_from or resume_from):
        return {}
    if not (found := _MOMENT.fullmatch(text)):
        raise UsageError(f"{text!r} is not a step of a run, such as 'RUN_ID?_step=40'")
    run, step = found[1], int(found[2])
    if fork_from:
        return {"fork_from": run, "fork_step": step}
    return {"run_id": run, "resume": "must", "resume_step": step}


def _begin(asked: dict[str, Any]) -> Run:
    if isinstance(asked["tags"], str):
        asked["tags"] = as_names(asked["tags"])
    settings = {key: asked[key] for key in ("project", "run_id", "name", "notes", "tags", "group")}
    settings["dir"] = None if asked["dir"] is None else Path(asked["dir"], "rankzero-runs")
    settings["resume"] = asked["resume"] if asked["resume"] in ("must", "never") else None
    settings |= asked["moment"]
    settings["delivery"] = "off" if asked["mode"] in _OFFLINE else None
    if asked["mode"] == "disabled":
        directory = os.path.join(tempfile.gettempdir(), "rankzero-disabled")
        run_id, name, project = (settings[key] or "disabled" for key in ("run_id", "name", "project"))
        return Run(RankzeroRun(RunInfo(run_id, name, project, directory)), asked)
    # Arguments that only W&B knows become its environment variables.
    with environment_of({_VARIABLES[name]: asked[name] for name in _FOR_TRACKERS if asked[name] is not None}):
        return Run(start_in_training(**{**settings, **start_settings}), asked)
