"""Pass an event to a logger: call the log method for its type."""

from __future__ import annotations

import os
from pathlib import Path

from rankzero.errors import RejectedError
from rankzero.events.structs import (
    Alert,
    Artifact,
    Checkpoint,
    Console,
    DefineMetric,
    Event,
    MediaEvent,
    Metrics,
    Params,
    Tags,
)
from rankzero.loggers.base import Logger


def dispatch(event: Event, logger: Logger, run_dir: Path) -> None:
    """Call the verb of ``logger`` for an event, if the event `is_for` the logger.

    Args:
        event: the event.
        logger: the logger.
        run_dir: the run's directory, with the event's files.

    Raises:
        RejectedError: a file was deleted. Some SDKs would not notice, and others would fail at each retry.
    """
    match event:
        case Metrics():
            logger.log_metrics(metrics=event.numbers(), step=event.step)
        case Params():
            _log_params(event, logger)
        case MediaEvent():
            _check_that_files_exist(event, run_dir)
            arguments, keywords = event.arguments(run_dir)
            getattr(logger, f"log_{event.media_kind()}")(*arguments, **keywords)
        case Artifact(path=path, name=name, kind=kind, aliases=aliases, metadata=metadata):
            if not logger.keeps_files and not (run_dir / path).exists():
                return
            _check_that_files_exist(event, run_dir)
            logger.log_artifact(str(run_dir / path), name=name, type=kind, aliases=aliases, metadata=metadata)
        case Checkpoint():
            if not event.automatic or logger.log_model in (None, "all"):
                upload(event, logger, run_dir)
        case DefineMetric():
            logger.define_metric(event.name, event.step_metric, event.summary, event.goal)
        case Tags():
            logger.log_tags(event.tags)
        case Alert():
            logger.alert(event.title, event.text, event.level)
        case Console() if event.is_for(logger.captures):
            logger.log_console(event.text, event.stream)


def upload(checkpoint: Checkpoint, logger: Logger, run_dir: Path) -> None:
    """Log a checkpoint, regardless of `Logger.log_model`.

    Raises:
        RejectedError: the files were deleted, and the logger keeps files.
    """
    path = checkpoint.find(run_dir)
    if path is None:
        if not logger.keeps_files:
            return
        raise RejectedError(
            f"the copy of the checkpoint {checkpoint.path} was deleted, because the loggers of the run had it and the "
            "script had deleted or overwritten the original"
        )
    logger.log_checkpoint(
        str(path),
        score=checkpoint.score,
        step=checkpoint.step,
        aliases=checkpoint.aliases,
        metadata=checkpoint.metadata,
    )


def _check_that_files_exist(event: Event, run_dir: Path) -> None:
    for path in event.paths:
        try:
            os.stat(run_dir / path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RejectedError(f"{path} was deleted before it was delivered") from error


def _log_params(event: Params, logger: Logger) -> None:
    metrics = event.initial_metrics()
    if metrics and _takes_metrics(logger):
        logger.log_hyperparams(event.params(), metrics=metrics)
        return
    logger.log_hyperparams(event.params())
    if metrics:
        logger.log_metrics(metrics=metrics, step=0)


def _takes_metrics(logger: Logger) -> bool:
    import inspect

    parameters = inspect.signature(logger.log_hyperparams).parameters
    return "metrics" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
