"""Transformers' Trainer logs to a run: with `RankzeroCallback`, or by ``report_to="rankzero"``.

Importing this module makes the name known to Transformers, as does the environment variable
``RANKZERO_INTEGRATIONS=transformers``. The metrics have the names, steps and values of Transformers' own callbacks.
"""

from __future__ import annotations

import functools
import sys
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, rewrite_logs
from transformers.trainer_callback import TrainerCallback

from rankzero.errors import ConfigError, RankzeroError
from rankzero.integrations.lazy_run import check_arguments, numbered, start_in_training
from rankzero.integrations.values import log_values, model_sizes
from rankzero.messages import OnceWarner, describe
from rankzero.run.run import Run
from rankzero.run.start import open_run, start

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

_KEY = "rankzero"  # in `report_to`, and among the callbacks' states of a checkpoint
_DEFAULT_PROJECT = "huggingface"  # of TrainingArguments
_WATCHED = ("gradients", "parameters", "all", None)


def _never_raises(event: Callable[..., None]) -> Callable[..., None]:
    """Decorate an event: an error becomes a warning."""

    @functools.wraps(event)
    def guarded(self: RankzeroCallback, /, *args: Any, **kwargs: Any) -> None:
        if self._is_broken:
            return
        try:
            event(self, *args, **kwargs)
        except Exception as error:
            self._is_broken = self.run is None  # do not try to start a run at each event
            name = event.__name__
            message = f"RankzeroCallback.{name}() could not log: {describe(error)}"
            self._warner.warn(f"{name} {type(error).__name__}", message)

    return guarded


class RankzeroCallback(TrainerCallback):  # type: ignore[misc]  # to mypy, Transformers is Any
    """Logs metrics, parameters and checkpoints of a Trainer to a run, which begins with the first event that logs.

    A callback has one run: later calls of ``train()``, ``evaluate()`` and ``predict()`` continue it. The run stays
    open until ``callback.run.finish()``, the end of the process, or until the callback is garbage-collected. Each trial
    of a hyperparameter search is a separate run. If training resumes from a checkpoint, the run of the checkpoint is
    continued, rewound to its step. No event raises; a run whose trackers cannot be used is kept on disk, with
    a warning.

    Args:
        loggers: the ``loggers`` of `rankzero.start`; or a Run, which the callback does not end.
        run: the same as a Run as ``loggers``.
        checkpoints: whether to log each checkpoint, by hard links; each logger's ``log_model`` says whether it is
            uploaded.
        watch: log histograms of ``"gradients"``, ``"parameters"`` or ``"all"``; None for none.
        watch_freq: the number of forward passes between two histograms; by default ``logging_steps``, but at least 100.
        resume: whether to continue a checkpoint's run when training resumes from the checkpoint.
        **settings: further arguments of `rankzero.start`. By default the name is ``TrainingArguments.run_name``, and
            the project is ``TrainingArguments.project`` if that is set.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """

    def __init__(
        self,
        loggers: Any = None,
        *,
        run: Run | None = None,
        checkpoints: bool = True,
        watch: str | None = None,
        watch_freq: int | None = None,
        resume: bool = True,
        **settings: Any,
    ) -> None:
        self._given = check_arguments(loggers, run, settings)
        if watch not in _WATCHED:
            raise ConfigError(f"watch must be {', '.join(map(repr, _WATCHED))}, not {watch!r}")
        self._loggers = loggers
        self._settings = settings
        self._checkpoints = checkpoints
        self._watch = watch
        self._watch_freq = watch_freq
        self._resume = resume
        self._reset()

    def _reset(self) -> None:
        self.run: Run | None = self._given
        """The run; None until something is logged."""
        self._is_broken = False
        self._has_params = False
        self._trials = 0
        self._trial: int | str | None = None
        self._saved: _Saved | None = None
        self._completed: int | None = None  # a step whose completions TRL will write to a file
        self._warner = OnceWarner()

    def __getstate__(self) -> dict[str, Any]:
        copy = object.__new__(type(self))  # without a run: it begins another one
        copy.__dict__.update(self.__dict__)
        copy._reset()
        return copy.__dict__

    # Events

    @_never_raises
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if state.is_hyper_param_search and self._given is None and self.run is not None:
            self.run.finish_in_background()
            self.run, self._has_params = None, False
        run = self._begin(args, state, model)
        if state.global_step:  # it resumes from a checkpoint
            run.rewind(state.global_step)
        run.finalize("failed")  # until the training has succeeded
        if state.is_world_process_zero:
            state.stateful_callbacks[_KEY] = {"run_id": run.id, "project": run.project}
        if self._watch is not None and model is not None:
            run.watch(model, self._watch, self._watch_freq or max(100, int(state.logging_steps or 0)), log_graph=False)

    @_never_raises
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = dict(logs or {})
        if "train_runtime" in logs:  # another callback may have removed it
            logs.setdefault("total_flos", state.total_flos)
        log_values(self._begin(args, state, model), rewrite_logs(logs), state.global_step)
        self._log_completions(args)
        if getattr(args, "log_completions", False) and "train_runtime" not in logs:
            self._completed = state.global_step

    @_never_raises
    def on_predict(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any],
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        log_values(self._begin(args, state, model), rewrite_logs(metrics), state.global_step, stage="test")

    @_never_raises
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        path = _checkpoint(args, state)
        if not self._checkpoints or path is None:
            return
        best = state.best_model_checkpoint
        aliases = ["latest", "best"] if best and Path(best).absolute() == path.absolute() else ["latest"]
        self._saved = _Saved(path, _score(args, state), state.global_step, aliases)
        if args.world_size == 1:
            self._log_checkpoint()

    @_never_raises
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._saved is not None:  # by now the other ranks have written their parts
            self._log_checkpoint()
        self._log_completions(args)

    @_never_raises
    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if self._saved is not None:
            self._log_checkpoint()
        self._log_completions(args)
        if self.run is None:
            return
        if self._watch is not None:
            self.run.unwatch(model)
        is_whole = any("train_runtime" in entry for entry in state.log_history[-1:])  # logged last, if nothing raised
        self.run.finalize("aborted" if state.is_hyper_param_search and not is_whole else "success")  # a pruned trial

    # The run

    def _begin(self, args: TrainingArguments, state: TrainerState, model: Any) -> Run:
        """Return the run; begin it if there is none, and log the parameters once."""
        if self.run is None:
            self.run = self._resumed(state) or self._start(args, state)
            # Without waiting; the end of the process ends all runs together.
            weakref.finalize(self, self.run.finish_in_background).atexit = False
        if not self._has_params:
            self._has_params = True
            self.run.log_hyperparams(_params(args, state, model, self._trial))
            if model is not None:
                self.run.log_graph(model)
        return self.run

    def _resumed(self, state: TrainerState) -> Run | None:
        """Return the run of the checkpoint from which the training resumes, if it can be continued."""
        made_by = state.stateful_callbacks.get(_KEY) if self._resume and state.global_step else None
        if not made_by or self._settings.get("run_id") or not state.is_world_process_zero:
            return None
        if (run := open_run(made_by["run_id"])) is not None:
            return run
        try:
            return start(self._loggers, **{**self._settings, **made_by, "resume": "must"})
        except RankzeroError as error:
            self._warner.warn("resume", f"the run of the checkpoint cannot be continued, so a new one begins: {error}")
            return None

    def _start(self, args: TrainingArguments, state: TrainerState) -> Run:
        settings = {**self._identity(args, state), **self._settings}
        if state.is_hyper_param_search:
            settings = numbered(settings, self._trial)
        return start_in_training(self._loggers, **settings)

    def _identity(self, args: TrainingArguments, state: TrainerState) -> dict[str, Any]:
        project = getattr(args, "project", None)
        identity: dict[str, Any] = {} if project in (None, _DEFAULT_PROJECT) else {"project": project}
        name = None if args.run_name == args.output_dir else args.run_name  # the default of older versions
        if state.is_hyper_param_search:
            self._trial, self._trials = _trial(default=self._trials), self._trials + 1
            identity["name"] = str(state.trial_name or f"{name or 'trial'}-{self._trial}")
            return identity | ({"group": name} if name else {})
        return identity | ({"name": name} if name else {})

    # Checkpoints, completions

    def _log_checkpoint(self) -> None:
        saved, self._saved = self._saved, None
        if self.run is not None and saved is not None:
            self.run.log_checkpoint(saved.path, saved.score, saved.step, saved.aliases, automatic=True)

    def _log_completions(self, args: TrainingArguments) -> None:
        """Log the completions that trainers of TRL write to a file after `on_log`, and send to few trackers only."""
        step, self._completed = self._completed, None
        path = Path(args.output_dir, "completions", f"completions_{step or 0:05d}.parquet")
        if step is not None and self.run is not None and path.exists():
            import pandas as pd

            self.run.log_table("completions", dataframe=pd.read_parquet(path), step=step)


def _ray_trial() -> str | None:
    """Return the id of the trial in a process of Ray Tune, where each trial has a copy of the callback."""
    context = getattr(sys.modules.get("ray.tune"), "get_context", None)
    if context is None:
        return None
    with warnings.catch_warnings(action="ignore"):  # it warns outside of a trial
        trial: str | None = context().get_trial_id()
    return trial


def _trial(default: int) -> int | str:
    """Return the id of Ray Tune's trial, or the number of Optuna's, which the Trainer does not pass to a callback."""
    frame: FrameType | None = None if (ray_trial := _ray_trial()) else sys._getframe()
    while frame is not None:
        number = getattr(frame.f_locals.get("trial"), "number", None)
        if isinstance(number, int):
            return number
        frame = frame.f_back
    return ray_trial or default


class _Saved(NamedTuple):
    path: Path
    score: float | None
    step: int
    aliases: list[str]


def _params(args: TrainingArguments, state: TrainerState, model: Any, trial: Any) -> dict[str, Any]:
    """Return the model's config, the arguments of the training, the trial, and the sizes of the model."""
    config = getattr(model, "config", None) or {}
    params: dict[str, Any] = dict(config if isinstance(config, Mapping) else config.to_dict())
    params |= args.to_dict()
    if adapters := getattr(model, "peft_config", None):
        params["peft_config"] = {name: each.to_dict() for name, each in adapters.items()}
    if state.is_hyper_param_search:
        number = {"number": trial} if isinstance(trial, int) else {}
        params["trial"] = {**number, **(state.trial_params or {})}
    if hasattr(model, "parameters"):
        params |= model_sizes(model.parameters(), (each for each in model.parameters() if each.requires_grad))
    return params


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path | None:
    """Return the directory of the checkpoint that was saved at this step; None if there is none."""
    name, output = f"checkpoint-{state.global_step}", Path(args.output_dir)
    found = [output / name]
    if state.is_hyper_param_search:  # each trial has a directory, whose name only the Trainer knows
        found = sorted(output.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime)
    return found[-1] if found and found[-1].is_dir() else None


def _score(args: TrainingArguments, state: TrainerState) -> float | None:
    """Return the value of ``metric_for_best_model`` at this step."""
    name = args.metric_for_best_model
    if name is None:
        return None
    name = name if name.startswith("eval_") else f"eval_{name}"
    at_step = [entry[name] for entry in state.log_history if entry.get("step") == state.global_step and name in entry]
    return at_step[-1] if at_step else None


INTEGRATION_TO_CALLBACK.update({_KEY: RankzeroCallback})
