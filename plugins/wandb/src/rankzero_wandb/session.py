"""Write to an open W&B run: the base class of sessions, and the session for direct use.

In direct use W&B's client delivers the data, and nothing is confirmed.
"""

from __future__ import annotations

import secrets
import weakref
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rankzero import rank_zero_warn
from rankzero.events.run_info import LogContext, MetricsRow
from rankzero.events.structs import Alert, Artifact, Checkpoint, DefineMetric
from rankzero.loggers.adapter import Session, Unsupported
from rankzero.loggers.summaries import kinds_of
from rankzero.media.record import Media
from rankzero.media.store import MediaFile
from rankzero_wandb import media as objects
from rankzero_wandb.confirmation import Confirmation, ReadBack
from rankzero_wandb.opening import FIRST_TIME_ONLY, MARK, STEP, open_direct
from rankzero_wandb.rows import Definition, State, Summaries

if TYPE_CHECKING:
    from rankzero_wandb.logger import WandbLogger

_NO_NAME = "(no name)"
"""Replaces an empty name, which W&B's client would drop."""

_RESERVED = frozenset(["_runtime", "_step", "_timestamp", "_wandb", STEP, "\\"])
"""Names that W&B's client uses, and one with which it crashes."""

known_runs: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""Id → open run of a logger in this process: W&B's client cannot open a run twice."""
our_runs: weakref.WeakSet[Any] = weakref.WeakSet()
"""Runs that a logger opened, not the user."""


def metric_name(name: str) -> str:
    """Return the name of a metric in W&B."""
    return f"metrics/{name}" if name in _RESERVED else name or _NO_NAME


class WandbSession(Session):
    """Writes to an open W&B run."""

    has_courier: ClassVar[bool]
    """Whether events come from a journal and must be confirmed by W&B."""

    def __init__(self, logger: WandbLogger) -> None:
        self.logger = logger
        self.state = State()
        self._summaries = Summaries(self.state)
        self._run: Any = None
        self._confirmation: Confirmation | None = None  # only of a courier
        self._last_line = -1  # of the newest console text or alert that was sent
        self._has_steps = not logger.options["sync_tensorboard"]

    @property
    def run(self) -> Any:
        """W&B's run."""
        return self._run

    @property
    def experiment(self) -> Any:
        return self.run

    # Rows

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        for row in rows:
            values = {self._name(name): value for name, value in row.values.items()}
            self._log(values, row.step, row.context)
            self._summaries.add(values, row.context.line)

    def _name(self, name: str) -> str:
        renamed = metric_name(name)
        if name in _RESERVED:
            message = f"W&B cannot store a metric called {name!r}; it is called {renamed!r} there"
            self.warner.warn(f"name {name}", message)
        return renamed

    def _log(self, row: dict[str, Any], step: int | None, context: LogContext, *, has_files: bool = False) -> None:
        if step is not None and self._has_steps:
            row[STEP] = step
        self._log_row(row, context, has_files)
        if has_files and self._confirmation is not None:
            self._confirmation.expects_files = True

    @abstractmethod
    def _log_row(self, row: dict[str, Any], context: LogContext, has_files: bool) -> None: ...

    def define_metric(self, definition: DefineMetric, context: LogContext) -> None:
        kinds, problem = kinds_of(definition.summary, definition.goal)
        name, axis = definition.name, definition.step_metric
        if problem:
            shown = "; W&B shows its last value" if kinds is None else ""
            self.warner.warn(f"define {name}", f"define_metric({name!r}): {problem}{shown}")
        defined = Definition(name, STEP if axis in (None, STEP) else f"{self.logger.prefix}{axis}", kinds)
        self._summaries.define(defined)
        self._define(defined)
        self._expect_settings(context)

    def _define(self, definition: Definition) -> None:
        summary = None if definition.kinds is None else "none"  # `Summaries` computes it
        self.run.define_metric(definition.name, step_metric=definition.step_metric, step_sync=True, summary=summary)

    def _push_summaries(self) -> None:
        for name, summary in self._summaries.take_changed().items():
            self.run.summary[name] = summary

    # Media

    def write_media(self, media: Media, context: LogContext) -> None:
        key = self._name(self.logger.prefix + media.key)
        match media.kind:
            case "image" | "audio" | "video" | "figure" | "pointcloud":
                if found := self._media_objects(media):
                    row = {key: found[0]} if media.kind == "figure" else objects.split_over_keys(key, found)
                    self._log(row, media.step, context, has_files=True)
            case "table" | "text":
                self._write_table(key, media, context)
            case "histogram":
                self._log({key: objects.histogram(media.histogram())}, media.step, context)
            case "graph":
                self._write_graph(media.items)
            case _:
                raise Unsupported

    def _media_objects(self, media: Media) -> list[Any]:
        """Return W&B's objects of the items; a file that W&B cannot show becomes an artifact."""
        converted = []
        for item, options in objects.with_options(media):
            try:
                converted.append(objects.media_object(media, item, options))
            except (OSError, ValueError) as error:
                if not isinstance(item, MediaFile) or not Path(item.path).exists():
                    raise
                message = f"W&B cannot show {media.key!r}, so it becomes an artifact: {error}"
                self.warner.warn(f"odd file {media.key}", message)
                self.logger.keep_file(media.key, item, media.kind, media.step)
        return converted

    def _write_table(self, key: str, media: Media, context: LogContext) -> None:
        """Write a table; a single text becomes a value of a row, because it may be logged at every step."""
        columns, rows = media.table()
        if media.kind == "text" and list(columns) == ["value"] and len(rows) == 1 and isinstance(rows[0][0], str):
            self._log({key: rows[0][0]}, media.step, context)
            return
        table = objects.table(columns, rows)
        self._log({key: table}, media.step, context, has_files=True)
        if (target := table._artifact_target) is not None:
            self._expect_artifact(target.artifact)

    def _write_graph(self, file: MediaFile) -> None:
        """Add a model graph to the summary; one that is delivered again keeps its key."""
        name, graphs = Path(file.path).name, self.state.graphs
        if name not in graphs:
            graphs.append(name)
        self.run.summary[f"graph_{graphs.index(name)}"] = objects.graph(file)
        if self._confirmation is not None:
            self._confirmation.expects_files = True

    # Params, tags, artifacts, console, alerts

    def write_params(self, params: dict[str, Any], context: LogContext) -> None:
        self.run.config.update(params, allow_val_change=True)
        self._expect_settings(context)

    def write_tags(self, tags: Sequence[str], context: LogContext) -> None:
        self.run.tags = tuple(dict.fromkeys([*(self.run.tags or ()), *tags]))
        self._expect_settings(context)

    def _expect_settings(self, context: LogContext) -> None:
        if self._confirmation is not None and context.line is not None:
            self._confirmation.unconfirmed_settings = context.line
            mark = self.run.config.get(MARK) or {}
            self.run.config.update({MARK: {**mark, "line": context.line}}, allow_val_change=True)

    def write_artifact(self, artifact: Artifact, context: LogContext) -> None:
        self._log_artifact(objects.file_artifact(artifact, is_immutable=self.has_courier), artifact.aliases)

    def write_checkpoint(self, checkpoint: Checkpoint, context: LogContext) -> None:
        is_immutable = self.has_courier or self.logger.options["add_file_policy"] == "immutable"
        artifact = objects.checkpoint_artifact(checkpoint, self._checkpoint_name, is_immutable=is_immutable)
        self._log_artifact(artifact, checkpoint.aliases)

    @property
    def _checkpoint_name(self) -> str:
        return objects.usable_name(self.logger.options["checkpoint_name"] or f"model-{self.run.id}")

    def _log_artifact(self, artifact: Any, aliases: Sequence[str]) -> None:
        given = [alias for alias in aliases if alias != "latest"]  # W&B sets it itself
        self._expect_artifact(self.run.log_artifact(artifact, aliases=given))

    def _expect_artifact(self, artifact: Any) -> None:
        if self._confirmation is not None:
            self._confirmation.artifacts.append(artifact)

    def read_checkpoint(self, alias: str, directory: Path) -> Path:
        import wandb

        name = f"{self._checkpoint_name}:{alias}"
        try:
            version = ReadBack.of(self.run).checkpoint(name)
        except wandb.errors.CommError as error:
            if not isinstance(error.exc, ValueError):
                raise
            raise LookupError(f"W&B has no checkpoint {name}") from error
        return Path(version.download(root=str(directory)), objects.CHECKPOINT)

    def write_console(self, text: str, stream: str, context: LogContext) -> None:
        if self._is_new(context):
            self.run.write_logs(text)

    def alert(self, alert: Alert, context: LogContext) -> None:
        if self._is_new(context):
            self.run.alert(alert.title, alert.text, level=alert.level)

    def _is_new(self, context: LogContext) -> bool:
        """Return whether an event was not sent in this session before."""
        if context.line is None:
            return True
        is_new, self._last_line = context.line > self._last_line, max(context.line, self._last_line)
        return is_new


class DirectSession(WandbSession):
    """Opens a run in direct use, or uses an open one; pickled with its logger.

    Args:
        logger: its logger.
        experiment: a run that the user opened; None to open one.
    """

    has_courier = False

    def __init__(self, logger: WandbLogger, experiment: Any = None) -> None:
        super().__init__(logger)
        self._run = experiment
        self._options = logger.options
        self._exit_code = 0
        self._is_ours = False
        self._resumes = False  # a run that was opened before
        self._attach_id: str | None = None  # of a run that another process has open
        self._id: str | None = None  # of copies of the logger that are made before the run is opened
        if experiment is not None:
            known_runs[experiment.id] = experiment

    def __getstate__(self) -> dict[str, Any]:
        self._id = self._id or secrets.token_hex(8)
        kept = {**self.__dict__, "_run": None, "_is_ours": False, "_resumes": True}
        if self._run is not None:
            kept |= {"_options": self._options_to_resume(), "_attach_id": getattr(self._run, "_attach_id", None)}
        return kept

    @property
    def is_open(self) -> bool:
        """Whether W&B's run has been opened."""
        return self._run is not None

    @property
    def id(self) -> str | None:
        """W&B's id of the run; None before W&B generates it."""
        return str(self._run.id) if self._run is not None else self._options.id_of(None) or self._id

    @property
    def run(self) -> Any:
        self.open()
        return self._run

    def open(self) -> None:
        """Open the run if it is not open."""
        if self._run is not None and _has_finished(self._run):
            self._release()  # the user ended it
        if self._run is None:
            self._run = self._find_open_run() or self._open_run()
            known_runs[self._run.id] = self._run
            self.url = self._run.url or None

    def _find_open_run(self) -> Any:
        """Return the run if it is open in this process, or in the one that pickled the logger; None otherwise."""
        import wandb

        active = wandb.run
        found = active if active is not None and active.id == self.id else known_runs.get(self.id or "")
        if found is not None and not _has_finished(found):
            return found
        if active is not None and active not in our_runs and not self._resumes:
            rank_zero_warn(
                f"the W&B run {active.id} is active, and WandbLogger logs to it; to log to a new run, call "
                "wandb.finish() first"
            )
            return active
        attach_id, self._attach_id = self._attach_id, None
        if attach_id is not None:
            from wandb.sdk.wandb_init import _attach

            with suppress(wandb.errors.Error):
                our_runs.add(run := _attach(attach_id))
                return run
        return None

    def _open_run(self) -> Any:
        self._run = open_direct(self._options, self.id)
        self._is_ours = True
        our_runs.add(self._run)
        for definition in self.state.definitions:
            self._define(definition)
        return self._run

    def _options_to_resume(self) -> Any:
        """Return options that resume the same run."""
        run, first = self._run, dict.fromkeys(FIRST_TIME_ONLY)
        project, entity = run.project or self._options["project"], run.entity or self._options.given.get("entity")
        return self._options.replace(**first, id=run.id, name=run.name, project=project, entity=entity)

    def _release(self) -> None:
        """Forget the run; the next call that needs it resumes it."""
        self._options = self._options_to_resume()
        self._run = None
        self._is_ours = False
        self._resumes = True

    def _log_row(self, row: dict[str, Any], context: LogContext, has_files: bool) -> None:
        self.run.log(row)

    def write_metrics(self, rows: Sequence[MetricsRow]) -> None:
        super().write_metrics(rows)
        self._push_summaries()

    def define_metric(self, definition: DefineMetric, context: LogContext) -> None:
        super().define_metric(definition, context)
        self._push_summaries()

    def finish(self, status: int, time: float) -> None:
        self._exit_code = status

    def close(self) -> None:
        if self._is_ours and self._run is not None:
            run = self._run
            self._release()
            run.finish(exit_code=self._exit_code)


def _has_finished(run: Any) -> bool:
    return bool(getattr(run, "_is_finished", False))
