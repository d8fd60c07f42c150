"""The session of a logger that is used directly, as Lightning's: what is logged is W&B's client's to deliver."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rankzero import rank_zero_warn
from rankzero.events.run_info import LogContext
from rankzero.values import Number
from rankzero_wandb.opening import FIRST_TIME_ONLY, open_direct
from rankzero_wandb.session import EXIT_CODES, Session, known_runs, our_runs
from rankzero_wandb.settings import Settings
from rankzero_wandb.summaries import Definition


class DirectSession(Session):
    """Opens a run, or uses one that is open already.

    Args:
        settings: what the user said of the run.
        experiment: a run that the user opened; None for one of our own.
    """

    has_courier = False

    def __init__(self, settings: Settings, experiment: Any = None) -> None:
        super().__init__(settings)
        self._run = experiment
        self._status = "success"
        self._is_ours = False
        self._goes_on = False  # with a run that was opened before
        self._attach_id: str | None = None  # of a run that another process has open
        self._id: str | None = None  # for the copies of a logger, before W&B makes one up
        if experiment is not None:
            known_runs[experiment.id] = experiment

    def __getstate__(self) -> dict[str, Any]:
        if self._run is not None:  # a spawned process goes on with it
            self.settings = self._settings_again()
        self._id = self._id or secrets.token_hex(8)
        return {
            "settings": self.settings,
            "url": self.url,
            "_status": self._status,
            "_id": self._id,
            "_attach_id": self._attach_id if self._run is None else getattr(self._run, "_attach_id", None),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "_is_ours": False, "_goes_on": True})

    def _settings_again(self) -> Settings:
        """Return the settings with which the same run is opened again."""
        run, settings = self._run, self.settings.without(FIRST_TIME_ONLY)
        init = {**settings.init, "entity": run.entity} if run.entity else settings.init
        return settings._replace(id=run.id, name=run.name, project=run.project or settings.project, init=init)

    # Open

    @property
    def id(self) -> str | None:
        if self._run is not None:
            return str(self._run.id)
        return self.settings.id_of(None) or self._id

    def _open_if_need_be(self, line: int = -1) -> None:
        if self._run is not None and _has_finished(self._run):
            self._let_go()  # somebody else ended it
        super()._open_if_need_be(line)

    def _open(self, line: int) -> None:
        import wandb

        active, wanted = wandb.run, self.id
        found = active if active is not None and active.id == wanted else known_runs.get(wanted or "")
        if found is not None and not _has_finished(found):
            self._run = found
        elif active is not None and active not in our_runs and not self._goes_on:
            rank_zero_warn(
                f"the W&B run {active.id} is active, and WandbLogger logs to it; call wandb.finish() before, if it "
                "is to have a run of its own"
            )
            self._run = active
        else:
            self._run = self._attached() or self._opened(wanted, in_parallel=active is not None)
            our_runs.add(self._run)
            for definition in self._summaries.definitions:
                self._tell(definition)

    def _opened(self, run_id: str | None, *, in_parallel: bool) -> Any:
        run = open_direct(self.settings._replace(id=run_id), in_parallel=in_parallel)
        self._is_ours = True
        return run

    def _attached(self) -> Any:
        """Return the run if the process that this logger came from has it open."""
        attach_id, self._attach_id = self._attach_id, None
        if attach_id is None:
            return None
        import wandb
        from wandb.sdk.wandb_init import _attach

        with suppress(wandb.errors.Error):
            return _attach(attach_id)
        return None

    def _let_go(self) -> None:
        """Have the same run opened the next time."""
        self.settings = self._settings_again()
        self._run = None
        self._is_ours = False
        self._goes_on = True

    # Rows

    def _log_row(self, row: dict[str, Any], context: LogContext, has_files: bool) -> None:
        self.run.log(row)

    def summarise(self, values: Mapping[str, Number], context: LogContext) -> None:
        if self._summaries.definitions:
            self._summaries.add(values)
            self._push_summaries()

    def define(self, definition: Definition, line: int | None) -> None:
        super().define(definition, line)
        self._push_summaries()

    # Ended

    def end(self, status: str, line: int | None) -> None:
        """Note how the run ended; frameworks may log on."""
        self._status = status

    def close(self) -> None:
        if self._is_ours and self._run is not None:
            run = self._run
            self._let_go()
            run.finish(exit_code=EXIT_CODES.get(self._status, 1))


def _has_finished(run: Any) -> bool:
    return bool(getattr(run, "_is_finished", False))
