"""Ignite with rankzero's logger, beside its own TensorboardLogger."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from integrations.reading import only_run, points
from waiting import A_WHILE

import rankzero
from rankzero.errors import ConfigError

pytest.importorskip("ignite")
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, tensorboard_logger
from servers.event_files import accumulated, scalars

from rankzero.integrations import ignite
from rankzero.integrations.ignite import RankzeroLogger, RankzeroSaver, setup_rankzero_logging

pytestmark = pytest.mark.usefixtures("undelivered")


def training():
    """A model, its optimizer and a trainer."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def update(engine, batch):
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return {"loss": loss, "nested": {"list": [1, 2.5]}, "vector": torch.tensor([1.0, 2.0])}

    return model, optimizer, Engine(update)


def attach(handlers, logger, model, optimizer, trainer):
    """Attach a handler of each kind."""
    trainer.state_dict_user_keys.append("alpha")
    trainer.state.alpha = 0.5
    completed = Events.ITERATION_COMPLETED
    logger.attach_output_handler(
        trainer, completed, tag="training", output_transform=lambda output: output, state_attributes=["alpha"]
    )
    logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED, optimizer=optimizer, tag="first")
    logger.attach(trainer, handlers.WeightsScalarHandler(model), completed)
    logger.attach(trainer, handlers.GradsScalarHandler(model, reduction=torch.norm, tag="t"), completed)
    logger.attach(trainer, handlers.WeightsHistHandler(model, whitelist=["0"]), Events.EPOCH_COMPLETED)
    logger.attach(trainer, handlers.GradsHistHandler(model), completed(every=2))


def test_handlers_log_what_ignites_own_log():
    for handlers, logger in (
        (tensorboard_logger, tensorboard_logger.TensorboardLogger("tb")),
        (ignite, RankzeroLogger()),
    ):
        model, optimizer, trainer = training()
        attach(handlers, logger, model, optimizer, trainer)
        with logger:
            trainer.run(torch.ones(4, 2), max_epochs=2)
    data, theirs = rankzero.read_run(logger.run.dir), scalars("tb")
    ours = points(data)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert [step for step, _ in ours[name]] == [step for step, _ in expected], name
        np.testing.assert_allclose([v for _, v in ours[name]], [v for _, v in expected], rtol=1e-6)
    read = accumulated("tb")
    written = {tag: [each.step for each in read.Histograms(tag)] for tag in read.Tags()["histograms"]}
    assert {name: [each.step for each in found] for name, found in data.histograms.items()} == written


def test_one_call_of_a_handler_is_one_row_and_texts_are_kept():
    rows = []

    class Noting(RankzeroLogger):
        def log_metrics(self, metrics, *, step):  # as each handler calls it
            rows.append((metrics, step))
            self.run.log_metrics(metrics, step)

    _, _, trainer = training()
    logger = Noting()
    logger.attach_output_handler(
        trainer, Events.EPOCH_COMPLETED, tag="t", output_transform=lambda output: {"loss": output["loss"], "note": "hi"}
    )
    trainer.run(torch.ones(2, 2), max_epochs=1)
    logger.close()
    ((metrics, step),) = rows
    assert (metrics.keys(), step) == ({"t/loss"}, 1)
    assert isinstance(metrics["t/loss"], torch.Tensor)  # nobody has waited for its value
    assert rankzero.read_run(logger.run.dir).texts["t/note"][0].data == [["hi"]]


def test_what_is_wrong_is_said_as_by_ignite():
    _, _, trainer = training()
    handler = ignite.OutputHandler("t", output_transform=lambda output: 1.0)
    with pytest.raises(RuntimeError, match="Handler 'OutputHandler' works only with RankzeroLogger"):
        handler(trainer, object(), Events.EPOCH_COMPLETED)
    wrong = ignite.OutputHandler("t", output_transform=lambda _: 1.0, global_step_transform=lambda *_: "one")
    with pytest.raises(TypeError, match="global_step must be int, got <class 'str'>"):
        wrong(trainer, RankzeroLogger(), Events.EPOCH_COMPLETED)
    missing = ignite.OutputHandler("t", metric_names=["gone"], output_transform=lambda _: {"no": object()})
    with (
        pytest.warns(UserWarning, match="Provided metric name 'gone' is missing"),
        pytest.warns(UserWarning, match="can not log metrics value type <class 'object'>"),
    ):
        missing(trainer, RankzeroLogger(), Events.EPOCH_COMPLETED)
    with pytest.raises(ConfigError):
        RankzeroLogger(projct="p")


@pytest.mark.parametrize(
    ("error", "status"), [(None, "success"), (ValueError(), "failed"), (KeyboardInterrupt(), "aborted")]
)
def test_what_leaves_the_block_is_the_status(error, status):
    try:
        with RankzeroLogger() as logger:
            logger.log_metrics({"a": 1.0})
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    logger.close()
    assert rankzero.read_run(logger.run.dir).status == status


def test_a_run_that_is_given_stays_open_and_nothing_begins_early():
    assert RankzeroLogger("csv")._run is None
    with rankzero.start() as run:
        with RankzeroLogger(run) as logger:
            logger.log_metrics({"a": 1.0})
        RankzeroLogger(run=run).close()
        run.log_metrics({"a": 2.0})
        assert logger.id == run.id
    assert len(points(rankzero.read_run(run.dir))["a"]) == 2


def test_copies():
    logger = RankzeroLogger("csv", project="p")
    assert pickle.loads(pickle.dumps(logger)).project == "p"
    assert copy.deepcopy(logger).project == "p"


def test_setup_gives_evaluators_the_iterations_of_the_trainer():
    _, optimizer, trainer = training()
    evaluator = Engine(lambda *_: 1.0)
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: engine.state.metrics.update(accuracy=0.5))
    logger = setup_rankzero_logging(
        trainer, optimizer, {"val": evaluator}, log_every_iters=2, loggers="csv", name="set-up"
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.state.metrics.update(loss=e.state.output["loss"]))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run([0]))
    trainer.run(torch.ones(4, 2), max_epochs=2)
    logger.close()
    data = rankzero.read_run(logger.run.dir)
    assert [step for step, _ in points(data)["val/accuracy"]] == [4, 8]
    assert [step for step, _ in points(data)["lr/group_0"]] == [2, 4, 6, 8]
    assert [step for step, _ in points(data)["training/loss"]][-1] == 8
    assert data.info.name == "set-up"


def test_setup_rewinds_the_run_of_a_trainer_that_was_restored():
    def train(state=None):
        _, _, trainer = training()
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.state.metrics.update(loss=0.5))
        logger = setup_rankzero_logging(trainer, log_every_iters=1, loggers="csv", run_id="r1")
        saved = []
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: saved.append(dict(engine.state_dict())))
        if state is not None:
            trainer.load_state_dict(state)
        trainer.run(torch.ones(3, 2), max_epochs=3)
        logger.close()
        return logger.run.dir, saved

    _, states = train()
    run_dir, _ = train(states[0])
    read, whole = rankzero.read_run(run_dir), rankzero.read_run(run_dir, keep_rewound=True)
    assert [step for step, _ in points(read)["training/loss"]] == list(range(1, 10))
    assert len(points(whole)["training/loss"]) == 9 + 6


@pytest.mark.parametrize("name", ["accuracy", None])
def test_saved_checkpoints_are_linked_with_their_scores(name):
    model, _, trainer = training()
    logger = RankzeroLogger()
    scores = iter([0.1, 0.9, 0.5])
    saver = RankzeroSaver(logger, "saved", lambda: trainer.state.iteration)
    checkpoint = Checkpoint({"model": model}, saver, n_saved=1, score_function=lambda _: next(scores), score_name=name)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    trainer.run(torch.ones(2, 2), max_epochs=3)
    logger.close()
    saved = rankzero.read_run(logger.run.dir).checkpoints
    assert [(each.score, each.step) for each in saved] == [(0.1, 2), (0.9, 4)]
    assert saved[-1].aliases == ["latest", "best"]
    assert all(torch.load(each.path)["0.weight"].shape == (3, 2) for each in saved)
    (left,) = Path("saved").iterdir()
    assert os.path.samefile(left, saved[-1].path)


def test_checkpoints_without_a_score_function_have_no_score():
    model, _, trainer = training()
    logger = RankzeroLogger()
    checkpoint = Checkpoint({"model": model}, RankzeroSaver(logger, "saved"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, checkpoint)
    trainer.run(torch.ones(2, 2), max_epochs=1)
    logger.close()
    (saved,) = rankzero.read_run(logger.run.dir).checkpoints
    assert (saved.score, saved.aliases) == (None, ["latest"])


SCRIPT = """
import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from rankzero.integrations.ignite import GradsHistHandler, RankzeroLogger

def train(rank):
    model = torch.nn.Linear(2, 1)
    def update(engine, batch):
        model(batch).mean().backward()
        return float(rank)
    trainer = Engine(update)
    with RankzeroLogger() as logger:
        logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, tag="t", output_transform=lambda loss: loss)
        logger.attach(trainer, GradsHistHandler(model), Events.ITERATION_COMPLETED)
        trainer.run(torch.ones(3, 2), max_epochs=1)

if __name__ == "__main__":
    with idist.Parallel(backend="gloo", nproc_per_node=2) as parallel:
        parallel.run(train)
"""


@pytest.mark.slow
def test_scripts_need_no_guard_for_ranks():
    Path("train.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", "train.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=A_WHILE, check=False)
    assert done.returncode == 0, done.stderr
    data = only_run()
    assert points(data) == {"t/output": [(1, 0.0), (2, 0.0), (3, 0.0)]}
    assert len(data.histograms["grads/weight"]) == 3
