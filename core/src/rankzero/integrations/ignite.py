"""PyTorch-Ignite logs to a run: `RankzeroLogger` and its handlers.

The handlers have the names and arguments of the handlers of Ignite's own loggers, and log the same names and steps.
"""

from __future__ import annotations

import numbers
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events
from ignite.handlers import DiskSaver, global_step_from_engine
from ignite.handlers.base_logger import (
    BaseLogger,
    BaseOptimizerParamsHandler,
    BaseOutputHandler,
    BaseWeightsHandler,
    BaseWeightsScalarHandler,
)

from rankzero.integrations.lazy_run import LazyRun
from rankzero.integrations.values import log_values

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer

__all__ = [
    "GradsHistHandler",
    "GradsScalarHandler",
    "OptimizerParamsHandler",
    "OutputHandler",
    "RankzeroLogger",
    "RankzeroSaver",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "global_step_from_engine",
    "setup_rankzero_logging",
]


class RankzeroLogger(LazyRun, BaseLogger):  # type: ignore[misc]  # to mypy, Ignite is Any
    """Logs to a run, which begins on first use; it has all methods of a `rankzero.Run`.

    Its handlers can be attached on each rank; only rank zero logs. As a context manager it ends the run as ``success``,
    ``failed`` or ``aborted``, by what leaves the block.

    Args:
        loggers: the ``loggers`` of `rankzero.start`; or a Run, which `close` does not end.
        run: the same as a Run as ``loggers``.
        **settings: further arguments of `rankzero.start`.

    Raises:
        ConfigError: an argument is invalid.
        PluginError: a logger is not installed, or is broken.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # used by copying and unpickling before attributes are set
            raise AttributeError(name)
        return getattr(self.run, name)

    def _create_output_handler(self, *args: Any, **kwargs: Any) -> OutputHandler:
        return OutputHandler(*args, **kwargs)

    def _create_opt_params_handler(self, *args: Any, **kwargs: Any) -> OptimizerParamsHandler:
        return OptimizerParamsHandler(*args, **kwargs)


class _Handler:
    """Calls ``log`` on rank zero."""

    tag: str | None

    def __call__(self, engine: Engine, logger: RankzeroLogger, event_name: Any) -> None:
        if not isinstance(logger, RankzeroLogger):
            raise RuntimeError(f"Handler {type(self).__name__!r} works only with RankzeroLogger.")
        if logger.run.is_active:
            self.log(engine, logger, self.step(engine, event_name))

    def step(self, engine: Engine, event_name: Any) -> int:
        step: int = engine.state.get_event_attrib_value(event_name)
        return step

    def log(self, engine: Engine, logger: RankzeroLogger, step: int) -> None:
        raise NotImplementedError

    def named(self, name: str) -> str:
        return f"{self.tag}/{name}" if self.tag else name


class OutputHandler(_Handler, BaseOutputHandler):  # type: ignore[misc]
    """Logs an engine's output, metrics and attributes of its state. Tensors are logged without waiting for a GPU."""

    def step(self, engine: Engine, event_name: Any) -> int:
        step = self.global_step_transform(engine, event_name)
        if not isinstance(step, int):
            raise TypeError(
                f"global_step must be int, got {type(step)}. Please check the output of global_step_transform."
            )
        return step

    def log(self, engine: Engine, logger: RankzeroLogger, step: int) -> None:
        log_values(logger, dict(_leaves(self._values(engine), str(self.tag))), step)

    def _values(self, engine: Engine) -> dict[str, Any]:
        metrics, values = engine.state.metrics, dict[str, Any]()
        for name in metrics if self.metric_names == "all" else self.metric_names or ():
            if name in metrics:
                values[name] = metrics[name]
            else:
                warnings.warn(
                    f"Provided metric name '{name}' is missing in engine's state metrics: {list(metrics)}", stacklevel=2
                )
        if self.output_transform is not None:
            output = self.output_transform(engine.state.output)
            values |= output if isinstance(output, dict) else {"output": output}
        return values | {name: getattr(engine.state, name, None) for name in self.state_attributes or ()}


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the numbers, scalar tensors and texts in nested mappings, sequences and vectors, with their names."""
    if isinstance(value, float | int | str):
        yield name, value
        return
    if isinstance(value, Mapping):
        parts: Any = value.items()
    elif isinstance(value, Sequence) or getattr(value, "ndim", 0) == 1:
        parts = enumerate(value)
    elif isinstance(value, numbers.Number) or getattr(value, "ndim", None) == 0:
        yield name, value
        return
    else:
        warnings.warn(f"Logger output_handler can not log metrics value type {type(value)}", stacklevel=2)
        return
    for key, each in parts:
        yield from _leaves(each, f"{name}/{key}")


class OptimizerParamsHandler(_Handler, BaseOptimizerParamsHandler):  # type: ignore[misc]
    """Logs a parameter of an optimizer's groups, such as the learning rate."""

    def log(self, engine: Engine, logger: RankzeroLogger, step: int) -> None:
        name = self.named(self.param_name)
        groups = enumerate(self.optimizer.param_groups)
        logger.log_metrics({f"{name}/group_{index}": group[self.param_name] for index, group in groups}, step=step)


class _WeightsHandler(_Handler):
    """Handles weights, or the gradients of those that have one."""

    kind = "weights"
    weights: tuple[tuple[str, Any], ...]

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, weight in self.weights:
            tensor = weight.grad if self.kind == "grads" else weight.detach()
            if tensor is not None:
                yield name.replace(".", "/"), tensor


class WeightsScalarHandler(_WeightsHandler, BaseWeightsScalarHandler):  # type: ignore[misc]
    """Logs a number for each weight, by default its norm."""

    def log(self, engine: Engine, logger: RankzeroLogger, step: int) -> None:
        prefix = self.named(f"{self.kind}_{self.reduction.__name__}")
        values = {f"{prefix}/{name}": self.reduction(tensor) for name, tensor in self.tensors()}
        if values:
            logger.log_metrics(values, step=step)


class GradsScalarHandler(WeightsScalarHandler):
    """Logs a number for the gradient of each weight, by default its norm."""

    kind = "grads"


class WeightsHistHandler(_WeightsHandler, BaseWeightsHandler):  # type: ignore[misc]
    """Logs a histogram of each weight."""

    def log(self, engine: Engine, logger: RankzeroLogger, step: int) -> None:
        for name, tensor in self.tensors():
            logger.log_histogram(self.named(f"{self.kind}/{name}"), tensor, step=step)


class GradsHistHandler(WeightsHistHandler):
    """Logs a histogram of the gradient of each weight."""

    kind = "grads"


class RankzeroSaver(DiskSaver):  # type: ignore[misc]
    """Saves checkpoints to a directory, and logs each one; Ignite may delete them afterwards.

    Args:
        logger: the logger.
        dirname: the directory.
        step: returns the step of a checkpoint; by default it is the last step of a metric.
        **settings: further arguments of ``DiskSaver``. Files are linked; with ``atomic=False`` they are copied.
    """

    def __init__(
        self,
        logger: RankzeroLogger,
        dirname: str | os.PathLike[str],
        step: Callable[[], int] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(dirname, **settings)
        self._logger = logger
        self._step = step
        self._is_atomic = settings.get("atomic", True)
        self._best: float | None = None

    def __call__(self, checkpoint: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        super().__call__(checkpoint, filename, metadata)
        details = dict(metadata or {})
        score = details.get("priority")
        if not details.get("score_name") and isinstance(score, numbers.Integral):
            score = None  # the step, without a score function
        aliases = ["latest"]
        if score is not None and (self._best is None or score > self._best):
            self._best = score
            aliases.append("best")
        self._logger.log_checkpoint(
            self.dirname / filename, score, self._step and self._step(), aliases, details, automatic=self._is_atomic
        )


def setup_rankzero_logging(
    trainer: Engine,
    optimizers: Optimizer | Mapping[str | None, Optimizer] | None = None,
    evaluators: Engine | Mapping[str, Engine] | None = None,
    log_every_iters: int = 100,
    *,
    trainer_metric_names: str | list[str] = "all",
    evaluator_metric_names: str | list[str] = "all",
    **settings: Any,
) -> RankzeroLogger:
    """Return a logger of a trainer's metrics, its optimizers' learning rates and the metrics of evaluators.

    If the trainer is restored from a checkpoint, the run is rewound to its iteration.

    Args:
        trainer: the engine that trains.
        optimizers: an optimizer, or name → optimizer.
        evaluators: an engine, or name → engine; its metrics have the trainer's iteration as their step.
        log_every_iters: the number of iterations between two rows of the trainer.
        trainer_metric_names: names of the trainer's metrics.
        evaluator_metric_names: names of the evaluators' metrics.
        **settings: the arguments of `RankzeroLogger`.
    """
    logger = RankzeroLogger(**settings)
    trainer.add_event_handler(Events.STARTED, _rewind, logger)
    logger.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED(every=log_every_iters), tag="training", metric_names=trainer_metric_names
    )
    for name, optimizer in _named(optimizers, None).items():
        logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED(every=log_every_iters), optimizer, tag=name)
    step = global_step_from_engine(trainer, Events.ITERATION_COMPLETED)
    for name, evaluator in _named(evaluators, "validation").items():
        logger.attach_output_handler(
            evaluator, Events.COMPLETED, tag=name, metric_names=evaluator_metric_names, global_step_transform=step
        )
    return logger


def _rewind(trainer: Engine, logger: RankzeroLogger) -> None:
    if trainer.state.iteration:  # restored from a checkpoint, or the training goes on
        logger.run.rewind(trainer.state.iteration)


def _named(given: Any, default: str | None) -> Mapping[Any, Any]:
    if given is None:
        return {}
    return given if isinstance(given, Mapping) else {default: given}
