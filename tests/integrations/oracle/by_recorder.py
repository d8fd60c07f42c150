"""Runs a training with a loop written by hand, and a recorder."""

from __future__ import annotations

from pathlib import Path

from integrations.oracle.training import LogCalls, Outcome, Point, Training
from recorded import events_in

import rankzero
from rankzero.events.structs import Metrics


def run_with_recorder(training: Training, directory: Path) -> Outcome:
    outcome, calls = Outcome(), LogCalls(training)
    validation = [training.loader(sizes) for sizes in training.validation]
    with rankzero.start(dir=directory, delivery="off") as run:
        rec = run.recorder(
            log_every_n_steps=training.log_every, accumulate_grad_batches=training.accumulate, progress_bar=None
        )

        def log_evaluation(place: str, loaders: int) -> None:
            calls.make(place, rec, batch_idx=rec.batch_idx, dataloader_idx=rec.dataloader_idx or 0, loaders=loaders)

        def validate() -> None:
            for _ in rec.validate(*validation):
                log_evaluation("validate", len(validation))

        if training.sanity_batches and validation:
            for _ in rec.sanity_check(*validation, limit=training.sanity_batches):
                log_evaluation("validate", len(validation))
        for epoch in rec.epochs(training.epochs):
            for _ in rec.train(training.loader(training.batches)):
                batch_idx = rec.batch_idx
                calls.make("train", rec, batch_idx=batch_idx)
                outcome.batch_metrics.append(rec.metrics)
                if validation and training.validate_every and (batch_idx + 1) % training.validate_every == 0:
                    validate()
            if validation and not training.validate_every:
                validate()
            calls.make("epoch", rec)
            outcome.metrics.append(rec.metrics)
            if epoch == training.stop_after:
                break
        if training.test:
            for _ in rec.test(*(training.loader(sizes) for sizes in training.test)):
                log_evaluation("test", len(training.test))
            outcome.test_metrics = rec.metrics
    for event in events_in(run.dir):
        if isinstance(event, Metrics):
            outcome.points += [
                Point(event.stage, name, event.step, event.epoch, value) for name, value in event.numbers().items()
            ]
    return outcome
