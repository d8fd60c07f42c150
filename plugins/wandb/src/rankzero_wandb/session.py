"""One logger's connection to its run in W&B: opened when it is first used, and sure of what arrived."""

from __future__ import annotations

import secrets
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rankzero import rank_zero_warn
from rankzero.errors import DeliveryError, FlushPostponedError, TrackerUnavailableError
from rankzero.liveness import Writer, writer_state
from rankzero.logger import Moment, RunInfo
from rankzero.values import Number
from rankzero_wandb.failures import opening, refused, translated
from rankzero_wandb.history import History
from rankzero_wandb.opening import STEP, Settings, define_step, mark, mark_as_synced, open_direct, open_for_courier
from rankzero_wandb.readback import MARK, ReadBack
from rankzero_wandb.state import State, StateFile
from rankzero_wandb.summaries import Definition, Summaries
from rankzero_wandb.upload_log import UploadLog

_EXIT_CODES = {"success": 0, "finished": 0, "aborted": 255, "killed": 255}
_PATIENCE = 30.0  # seconds without a word from W&B
_SLOWEST = 50_000  # bytes a second at which files are uploaded
_ARTIFACT_PATIENCE = 3600.0
_LOOK_EVERY = 0.02
_ASK_EVERY = 0.5

_known: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
"""The runs that loggers of this process write to, by their ids: W&B's client has a run open only once."""
_ours: weakref.WeakSet[Any] = weakref.WeakSet()
"""Those of them that loggers have opened."""
_FIRST_TIME_ONLY = ("config", "fork_from", "notes", "resume", "resume_from", "tags")
"""Arguments of ``wandb.init`` that are not for going on with a run: what they set may have changed since."""


class Session:
    """Opens and ends a run, writes its rows and settings, and waits for W&B to have them.

    Args:
        settings: what the user said of the run.
        experiment: a run that the user opened; None for one of our own.
    """

    def __init__(self, settings: Settings, experiment: Any = None) -> None:
        self.settings = settings
        self.run_info: RunInfo | None = None
        """The rankzero run, None in direct use."""
        self.state = State()
        self.url: str | None = None
        """Where W&B shows the run, once it was opened."""
        self._run = experiment
        self._status = "success"
        self._is_ours = False
        self._goes_on = False  # with a run that was opened before
        self._attach_id: str | None = None  # of a run that another process has open
        self._id: str | None = None  # for the copies of a logger that is used directly, before W&B makes one up
        self._opening = threading.RLock()  # a courier that is a thread, and who uses the run meanwhile
        if experiment is not None:
            _known[experiment.id] = experiment
        self._forget()

    def _forget(self) -> None:
        self._history: History | None = None
        self._uploads: UploadLog | None = None
        self._summaries = Summaries((), {})
        self._state_file: StateFile | None = None
        self._params: dict[str, Any] = {}
        self._unsettled: int | None = None  # the line of the newest setting that W&B may lack
        self._missing: dict[str, int] = {}  # files that W&B may lack
        self._artifacts: list[Any] = []
        self._is_lost = False  # something that W&B's client will not send again by itself
        self._is_postponed = False

    def __getstate__(self) -> dict[str, Any]:
        if self._run is not None and not self.has_courier:  # a spawned process goes on with it
            self.settings = self._settings_again()
        self._id = self._id or secrets.token_hex(8)
        return {
            "settings": self.settings,
            "run_info": self.run_info,
            "url": self.url,
            "_status": self._status,
            "_id": self._id,
            "_attach_id": self._attach_id if self._run is None else getattr(self._run, "_attach_id", None),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, state=State(), _run=None, _is_ours=False, _goes_on=True, _opening=threading.RLock())
        self._forget()

    def _settings_again(self) -> Settings:
        """Return the settings with which the same run is opened again."""
        run, settings = self._run, self.settings
        init = {name: value for name, value in settings.init.items() if name not in _FIRST_TIME_ONLY}
        if run.entity:
            init["entity"] = run.entity
        return settings._replace(id=run.id, name=run.name, project=run.project or settings.project, init=init)

    # Open

    @property
    def is_open(self) -> bool:
        """Whether W&B's run has been opened."""
        return self._run is not None

    @property
    def id(self) -> str | None:
        """W&B's id of the run, None before it makes one up."""
        if self._run is not None:
            return str(self._run.id)
        return self.settings.id_of(self.run_info) or self._id

    @property
    def run(self) -> Any:
        """W&B's run."""
        self._open_if_need_be(-1)
        return self._run

    @property
    def has_courier(self) -> bool:
        """Whether what is logged comes from a journal and must be acknowledged."""
        return self.run_info is not None

    def _open_if_need_be(self, line: int) -> None:
        with self._opening:
            if self._run is not None and not self.has_courier and getattr(self._run, "_is_finished", False):
                self._let_go()  # somebody else ended it
            if self._run is None:
                self._open(line)

    def _open(self, line: int) -> None:
        if self.run_info is not None:
            self._open_for_courier(self.run_info, line)
            _ours.add(self._run)
        else:
            self._open_directly()
        _known[self._run.id] = self._run
        self.url = self._run.url or None

    def _open_directly(self) -> None:
        import wandb

        active, wanted = wandb.run, self.id
        found = active if active is not None and active.id == wanted else _known.get(wanted or "")
        if found is not None and not getattr(found, "_is_finished", False):
            self._run = found
        elif active is not None and active not in _ours and not self._goes_on:
            rank_zero_warn(
                f"the W&B run {active.id} is active, and WandbLogger logs to it; call wandb.finish() before, if it "
                "is to have a run of its own"
            )
            self._run = active
        else:
            self._run = self._attached()
            if self._run is None:
                self._run = open_direct(self.settings._replace(id=wanted), in_parallel=active is not None)
                self._is_ours = True
            _ours.add(self._run)
            for definition in self._summaries.definitions:
                self._tell(definition)

    def _attached(self) -> Any:
        """Return the run if the process that this logger came from has it open."""
        import wandb
        from wandb.sdk.wandb_init import _attach

        attach_id, self._attach_id = self._attach_id, None
        if attach_id is not None:
            with suppress(wandb.errors.Error):
                return _attach(attach_id)
        return None

    def _let_go(self) -> None:
        """Have the same run opened the next time."""
        self.settings = self._settings_again()
        self._run = None
        self._is_ours = False
        self._goes_on = True

    def _open_for_courier(self, run: RunInfo, line: int) -> None:
        self._state_file = StateFile(run.dir, self.settings.target_of(run))
        known = self._state_file.load()
        with opening(self.settings.id_of(run)):
            if (left := _known.pop(self.settings.id_of(run) or "", None)) is not None:
                left.finish()  # its logger is gone
            self._run = open_for_courier(
                self.settings, run, self._params, line, is_new=known is None or self.settings.is_offline
            )
        if self.settings.real_mode == "disabled":
            return
        self.state = known or State()
        self._uploads = UploadLog(Path(self._run.settings.log_internal))
        self._history = History(self._run, self.state, self._save_state, self._uploads)
        self._summaries = Summaries(self.state.definitions, self.state.values)
        if known is None:
            if self._run.id != run.id and self._run.starting_step:  # the rows of an older run, which goes on here
                self.state.shifts = [(0, int(self._run.starting_step))]
            self._save_state()
        define_step(self._run)
        for definition in self.state.definitions:
            self._tell(definition)

    def ended_offline(self) -> int:
        """Return how many lines of the journal are in files that W&B's client has ended."""
        run = self.run_info
        known = None if run is None else StateFile(run.dir, self.settings.target_of(run)).load()
        return known.ended if known is not None else 0

    def _save_state(self) -> None:
        if self._state_file is not None:
            self.state.definitions = self._summaries.definitions
            self._state_file.save(self.state)

    # Rows

    def log(self, values: Mapping[str, Any], step: int | None, moment: Moment, *, has_files: bool = False) -> None:
        """Log a row."""
        row = dict(values)
        if step is not None and not self.settings.init.get("sync_tensorboard"):
            row[STEP] = step
        self._open_if_need_be((moment.line or 0) - 1)
        if self.has_courier:
            row["_timestamp"] = moment.time
        if self._history is None or moment.line is None:
            self._run.log(row)
        else:
            self._history.log(row, moment.line, has_files=has_files)
        if has_files:
            self.expect_files()

    def summarise(self, values: Mapping[str, Number], moment: Moment) -> None:
        """Take the numbers of a row into the summaries."""
        if not self._summaries.definitions:
            return
        if moment.line is None:
            self._summaries.add(values)
            self._push_summaries()
        elif moment.line >= self.state.line:
            self._summaries.add(values)
            self.state.line = moment.line + 1

    def define(self, definition: Definition, line: int | None) -> None:
        """Say what is to be known of a metric."""
        run = self.run
        self._summaries.define(definition)
        self._tell(definition)
        self.settle(line)
        if run is not None and line is None:
            self._push_summaries()

    def _tell(self, definition: Definition) -> None:
        self._run.define_metric(
            definition.name,
            step_metric=definition.step_metric,
            step_sync=True,
            summary=None if definition.kinds is None else "none",  # it is computed here
        )

    def _push_summaries(self) -> None:
        for name, summary in self._summaries.take_changed().items():
            self._run.summary[name] = summary

    # Settings

    def configure(self, params: dict[str, Any], line: int | None) -> None:
        """Add to the run's config."""
        with self._opening:
            if self._run is None and line is not None and not self._params:
                self._params = params
                self._open(line)
                return
        self._params = {}  # with which the run could not be opened: maybe because of them
        self.run.config.update(params, allow_val_change=True)
        self.settle(line)

    def settle(self, line: int | None) -> None:
        """Note that a setting is on its way which stands in a line of the journal."""
        if self._history is None or line is None:
            return
        self._unsettled = line
        self._run.config.update({MARK: {**self._mark(), "line": line}}, allow_val_change=True)

    def _mark(self) -> dict[str, Any]:
        known = self._run.config.get(MARK)
        return dict(known) if isinstance(known, Mapping) else mark(-1, None)

    # Files

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        """Log an artifact, and have `wait` wait for it."""
        with translated("W&B has not taken an artifact"):
            logged = self.run.log_artifact(artifact, aliases=aliases)
        self._expect_artifact(logged)

    def expect_table(self, table: Any) -> None:
        """Have `wait` wait for the artifact that W&B's client makes of a table, which has the pictures in its cells."""
        if (target := table._artifact_target) is not None:
            self._expect_artifact(target.artifact)

    def _expect_artifact(self, artifact: Any) -> None:
        if self._history is not None and self.settings.is_online:
            self._artifacts.append(artifact)

    def log_graph(self, name: str, graph: Any) -> None:
        """Log a model's structure, once for each ``name``."""
        run, graphs = self.run, self.state.graphs
        if name not in graphs:
            graphs.append(name)
        run.summary[f"graph_{graphs.index(name)}"] = graph
        self.expect_files()

    def expect_files(self) -> None:
        """Have `wait` wait for all media that lie in the run's directory: those that arrived are deleted there."""
        if self._history is None or not self.settings.is_online:
            return
        directory = Path(self._run.dir)
        for path in (directory / "media").rglob("*"):
            if path.is_file():
                self._missing[path.relative_to(directory).as_posix()] = path.stat().st_size

    # Acknowledged

    def wait(self) -> None:
        """Wait until W&B has everything.

        Raises:
            TrackerUnavailableError: it does not say so.
            RejectedError: it never takes some of it.
        """
        if self._run is None or self._history is None:
            return
        self._push_summaries()
        if self.settings.is_online:
            try:
                self._wait_for_rows()
                self._wait_for_artifacts()
                self._wait_for_files_and_settings()
            except DeliveryError:
                self._abandon_if_fatal()
                raise
        self._save_state()
        self._is_postponed = False

    def _wait_for_rows(self) -> None:
        assert self._history is not None
        assert self._uploads is not None
        seen, deadline = -1, time.monotonic() + _PATIENCE
        while not self._history.is_acknowledged():
            if self._uploads.fatal:
                raise refused(self._uploads.fatal)
            if self._uploads.rows > seen:
                seen, deadline = self._uploads.rows, time.monotonic() + _PATIENCE
            if time.monotonic() > deadline:
                raise TrackerUnavailableError(f"W&B has not taken rows for {_PATIENCE:.0f} s")
            time.sleep(_LOOK_EVERY)

    def _wait_for_artifacts(self) -> None:
        artifacts, self._artifacts = self._artifacts, []  # if it fails they are all logged again
        for artifact in artifacts:
            with translated("W&B has not taken an artifact"):
                self._wait_for_artifact(artifact)

    def _wait_for_artifact(self, artifact: Any) -> None:
        assert self._uploads is not None
        try:
            artifact.wait(timeout=int(_ARTIFACT_PATIENCE))
        except ValueError as error:  # whatever hindered W&B's client
            self._uploads.read()
            causes = [self._uploads.failures.pop(name, "") for name in artifact.manifest.entries]
            raise refused(" ".join(filter(None, [str(error), *causes]))) from error

    def _wait_for_files_and_settings(self) -> None:
        deadline = time.monotonic() + _PATIENCE + sum(self._missing.values()) / _SLOWEST
        while self._missing or self._unsettled is not None:
            self._ask()
            if not self._missing and self._unsettled is None:
                return
            self._check_uploads()
            self._postpone_once()
            if time.monotonic() > deadline:
                lacking = ", ".join(sorted(self._missing)[:3]) or "the newest settings"
                raise TrackerUnavailableError(f"W&B has not taken {lacking}")
            time.sleep(_ASK_EVERY)

    def _postpone_once(self) -> None:
        """Let what may be the end of the run come first, which has W&B's client send files and settings at once."""
        assert self.run_info is not None
        if not self._is_postponed and writer_state(Path(self.run_info.dir)) is not Writer.ALIVE:
            self._is_postponed = True
            raise FlushPostponedError("W&B's client sends files and settings every five seconds")

    def _ask(self) -> None:
        ask = ReadBack(self._run)
        if self._missing:
            self._arrived(ask.sizes(self._missing))
        if self._unsettled is not None and ask.line() >= self._unsettled:
            self._unsettled = None

    def _arrived(self, sizes: Mapping[str, int]) -> None:
        for name, size in list(self._missing.items()):
            if sizes.get(name) == size:
                del self._missing[name]
                Path(self._run.dir, name).unlink(missing_ok=True)

    def _check_uploads(self) -> None:
        assert self._uploads is not None
        self._uploads.read()
        if self._uploads.fatal:
            raise refused(self._uploads.fatal)
        failures = self._uploads.failures
        lost = [reason for name, reason in failures.items() if name in self._missing or (self._missing and not name)]
        if self._unsettled is not None and self._uploads.settings_failure:
            lost.append(self._uploads.settings_failure)
        if lost:
            self._is_lost = True
            raise refused(lost[0])

    def _abandon_if_fatal(self) -> None:
        """Have the run opened anew the next time, if W&B's client uploads nothing any more."""
        if self._is_lost or (self._uploads is not None and self._uploads.fatal):
            self._abandon()

    def _abandon(self) -> None:
        run, self._run = self._run, None
        self._forget()
        with suppress(Exception):
            run.finish()

    # Ended

    def end(self, status: str, line: int | None = None) -> None:
        """Have the run marked as ended, and W&B has everything; in direct use only note how it ended.

        Args:
            status: how it ended.
            line: the line of the journal that says so.
        """
        self._status = status
        if not self.has_courier:
            return
        self._open_if_need_be(-1)
        try:
            self._finish(_EXIT_CODES.get(status, 1), line)
        finally:
            if self._run is not None:
                self._abandon()

    def _finish(self, exit_code: int, line: int | None) -> None:
        run = self._run
        self._is_postponed = True  # this is the end
        if self._history is None or not self.settings.is_online:
            self.wait()
            run.finish(exit_code=exit_code)
            if line is not None:
                self.state.ended = line + 1
                self._save_state()
            self._run = None
            self._forget()
            return
        self._push_summaries()
        self._wait_for_artifacts()
        if sum(self._missing.values()) > _SLOWEST * _PATIENCE:  # more than finish() waits for
            self.wait()
        run.finish(exit_code=exit_code)
        self._check_that_all_arrived()
        self._save_state()
        if self.run_info is not None:
            mark_as_synced(self.settings, self.run_info)
        self._run = None
        self._forget()

    def _check_that_all_arrived(self) -> None:
        assert self._history is not None
        assert self._uploads is not None
        self._check_uploads()
        if not self._uploads.is_complete or not self._history.is_acknowledged():
            raise TrackerUnavailableError("W&B has not confirmed that it has all of the run")
        if self._missing or self._unsettled is not None:
            self._wait_for_files_and_settings()

    def close(self) -> None:
        """Release everything; in direct use the run has ended then."""
        if self._run is None:
            return
        if self.has_courier:
            self._abandon()
        elif self._is_ours:
            run = self._run
            self._let_go()
            run.finish(exit_code=_EXIT_CODES.get(self._status, 1))
