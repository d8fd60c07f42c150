"""Transformers' Trainer with rankzero's callback, beside its own TensorBoardCallback."""

import copy
import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from integrations.reading import only_run, points
from recorded import events_in

import rankzero
from rankzero.errors import ConfigError, UnknownLoggerError
from rankzero.events.structs import Text
from rankzero.rundir.layout import JOURNAL

pytest.importorskip("transformers")
import torch
from servers.event_files import scalars
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import set_seed
from waiting import A_WHILE

from rankzero.integrations.transformers import RankzeroCallback

pytestmark = [
    pytest.mark.usefixtures("undelivered"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.timeout(300),
]

TINY = LlamaConfig(
    vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=16,
)  # fmt: skip
DATA = [{"input_ids": (torch.arange(8) + shift) % 32, "labels": (torch.arange(8) + shift) % 32} for shift in range(16)]


@pytest.fixture
def said(monkeypatch):
    """What the callback warns of."""
    messages = []
    for module in ("rankzero.messages", "rankzero.integrations.lazy_run"):
        monkeypatch.setattr(f"{module}.warn_user", messages.append)
    return messages


def trainer(*callbacks, model=None, **arguments):
    set_seed(1)
    defaults = {
        "output_dir": "out", "per_device_train_batch_size": 4, "max_steps": 6, "logging_steps": 1, "save_steps": 2,
        "use_cpu": True, "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip
    chosen = TrainingArguments(**{**defaults, **arguments})
    model = model or LlamaForCausalLM(TINY)
    return Trainer(model, chosen, train_dataset=DATA, eval_dataset=DATA, callbacks=list(callbacks))


def callback_of(made):
    return next(each for each in made.callback_handler.callbacks if isinstance(each, RankzeroCallback))


def ended(callback):
    """End the run of a callback and read it."""
    callback.run.finish()
    return rankzero.read_run(callback.run.dir)


class Raises(TrainerCallback):
    """Ends a training at a step with an exception."""

    def __init__(self, error, step=3):
        self.error, self.step = error, step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise self.error


# Metrics and parameters


def test_metrics_are_those_that_tensorboard_gets():
    made = trainer(report_to=["rankzero", "tensorboard"], eval_strategy="steps", eval_steps=2, disable_tqdm=False)
    made.train()
    made.evaluate()
    data = ended(callback_of(made))
    (log_dir,) = {path.parent for path in Path("out/runs").rglob("*tfevents*")}
    theirs = scalars(log_dir)
    ours = points(data)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert [step for step, _ in ours[name]] == [step for step, _ in expected], name
        np.testing.assert_allclose([value for _, value in ours[name]], [value for _, value in expected], rtol=1e-6)
    assert ours["train/train_loss"][0][0] == 6
    assert data.status == "success"


def test_predictions_texts_and_values_that_another_callback_removes(said):
    callback = RankzeroCallback()
    made = trainer(callback)  # PrinterCallback removes total_flos from the logs
    made.train()
    made.predict(DATA)
    made.log({"note": "warm", "more": 2.0})
    data = ended(callback)
    assert points(data)["train/total_flos"] == [(6, made.state.total_flos)]
    assert points(data)["train/more"] == [(6, 2.0)]
    assert points(data)["test/loss"][0][0] == 6
    texts = events_in(callback.run.dir, Text)
    assert [(each.key, each.step) for each in texts] == [("train/note", 6)]
    assert said == []


def test_parameters_are_the_models_config_and_the_arguments():
    callback = RankzeroCallback()
    trainer(callback, learning_rate=3e-4, run_name="mine", hub_token="hf_secret").train()
    data = ended(callback)
    assert data.params["hidden_size"] == 8
    assert data.params["learning_rate"] == 3e-4
    assert data.params["model/num_parameters"] == LlamaForCausalLM(TINY).num_parameters()
    assert data.params["model/num_trainable_parameters"] == data.params["model/num_parameters"]
    assert "hf_secret" not in (callback.run.dir / JOURNAL).read_text()
    assert data.info.name == "mine"


def test_a_model_without_config():
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, input_ids, labels):
            return {"loss": self.layer(input_ids.float().mean().reshape(1)).square().mean()}

    callback = RankzeroCallback()
    trainer(callback, model=Plain(), save_strategy="no").train()
    assert ended(callback).params["model/num_parameters"] == 2


def test_settings_of_the_callback_go_before_those_of_the_trainer():
    callback = RankzeroCallback("csv", project="mine", name="first", tags=["a"])
    trainer(callback, run_name="other", project="theirs").train()
    assert (callback.run.project, callback.run.name) == ("mine", "first")
    other = RankzeroCallback()
    trainer(other, project="theirs").train()
    assert other.run.project == "theirs"


def test_training_is_the_same_with_and_without_the_callback():
    def trained(*callbacks):
        made = trainer(*callbacks, eval_strategy="steps", eval_steps=2)
        made.train()
        losses = [each["loss"] for each in made.state.log_history if "loss" in each]
        return made.model.state_dict(), losses, torch.rand(1)

    plain, losses, random = trained()
    logged, same_losses, same_random = trained(RankzeroCallback(watch="all", watch_freq=1))
    assert all(torch.equal(plain[name], logged[name]) for name in plain)
    assert losses == same_losses
    assert torch.equal(random, same_random)


def test_watched_gradients():
    callback = RankzeroCallback(watch="gradients", watch_freq=2)
    made = trainer(callback)
    made.train()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.model.modules())
    assert any("gradients" in key for key in ended(callback).histograms)


# Which run


def test_the_run_begins_with_the_first_log_call_and_is_continued():
    callback = RankzeroCallback()
    made = trainer(callback)
    assert callback.run is None
    assert not os.path.exists("rankzero-runs")
    made.evaluate()
    first = callback.run
    made.train()
    made.evaluate()
    assert callback.run is first
    assert [step for step, _ in points(ended(callback))["eval/loss"]] == [0, 6]


def test_a_run_that_is_given_is_not_ended():
    with rankzero.start() as run:
        callback = RankzeroCallback(run=run)
        trainer(callback).train()
        trainer(RankzeroCallback(run)).train()
        del callback
        run.log_metrics({"mine": 1.0}, 7)
    assert [step for step, _ in points(rankzero.read_run(run.dir))["train/train_loss"]] == [6, 6]
    assert rankzero.read_run(run.dir).status == "success"


def test_two_trainers_have_two_runs_and_one_ends_with_its_callback():
    first, second = RankzeroCallback(), RankzeroCallback()
    trainer(first).train()
    trainer(second).train()
    run = first.run
    assert run.id != second.run.id
    del first
    gc.collect()
    assert rankzero.read_run(run.dir).status == "success"


def test_a_copy_begins_a_separate_run():
    callback = RankzeroCallback("csv", project="p")
    trainer(callback).train()
    for other in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert other.run is None
        trainer(other).train()
        assert other.run.id != callback.run.id
        assert other.run.project == "p"


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"loggers": "no-such-logger"}, UnknownLoggerError),
        ({"projct": "p"}, ConfigError),
        ({"config": ("lr", 0.1)}, ConfigError),
        ({"run": "abc"}, ConfigError),
        ({"watch": "grads"}, ConfigError),
    ],
)
def test_wrong_arguments_raise_at_once(given, error):
    with pytest.raises(error):
        RankzeroCallback(**given)


@pytest.mark.parametrize(("variable", "value"), [("RANKZERO_DISABLED", "1"), ("RANK", "1")])
def test_loggers_are_not_looked_at_where_nothing_is_logged(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    RankzeroCallback("no-such-logger")


def test_a_run_that_another_process_writes_does_not_prevent_training(said):
    with rankzero.start(run_id="taken") as taken:
        callback = RankzeroCallback(run_id="taken")
        trainer(callback).train()
    assert callback.run.id != taken.id
    assert len(said) == 1
    assert points(ended(callback))["train/train_loss"]


def test_a_directory_that_cannot_be_written_does_not_prevent_training(said):
    Path("file").touch()
    callback = RankzeroCallback(dir="file/runs")
    made = trainer(callback)
    made.train()
    assert made.state.global_step == 6
    assert callback.run is None
    assert len(said) == 1


# Endings


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_training_with_an_exception_is_not_a_success_even_if_the_script_continues(error):
    callback = RankzeroCallback()
    with pytest.raises(type(error)):
        trainer(callback, Raises(error)).train()
    data = ended(callback)
    assert data.status == "failed"
    assert [step for step, _ in points(data)["train/loss"]] == [1, 2]


# Checkpoints


def test_each_checkpoint_is_kept_by_links_though_the_trainer_deletes_it():
    callback = RankzeroCallback()
    made = trainer(
        callback, eval_strategy="steps", eval_steps=2, save_total_limit=1, metric_for_best_model="loss",
        load_best_model_at_end=True,
    )  # fmt: skip
    made.train()
    last = made.state.best_model_checkpoint
    data = ended(callback)
    saved = data.checkpoints
    assert [each.step for each in saved] == [2, 4, 6]
    evaluated = dict(points(data)["eval/loss"])
    assert [each.score for each in saved] == [evaluated[2], evaluated[4], evaluated[6]]
    assert saved[-1].aliases == ["latest", "best"]
    assert all(each.automatic for each in saved)
    inside = set(os.listdir(last))
    for each in saved:
        assert set(os.listdir(callback.run.dir / each.path)) == inside
    assert os.path.samefile(callback.run.dir / saved[-1].path / "model.safetensors", f"{last}/model.safetensors")


def test_no_checkpoints():
    callback = RankzeroCallback(checkpoints=False)
    trainer(callback).train()
    assert ended(callback).checkpoints == []


# Resuming


@pytest.mark.parametrize("is_open", [True, False])
def test_the_run_of_a_checkpoint_is_continued(is_open):
    first = RankzeroCallback()
    with pytest.raises(ValueError, match="no"):
        trainer(first, Raises(ValueError("no"), step=5)).train()
    if not is_open:
        first.run.finish()
    second = RankzeroCallback()
    trainer(second).train(resume_from_checkpoint=True)
    assert second.run.id == first.run.id
    data = ended(second)
    assert [step for step, _ in points(data)["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert data.status == "success"


@pytest.mark.parametrize("is_open", [True, False])
def test_steps_after_the_checkpoint_that_were_logged_before_a_crash_are_left_out(is_open):
    first, second = RankzeroCallback(), RankzeroCallback()
    with pytest.raises(ValueError, match="no"):
        trainer(first, Raises(ValueError("no"), step=6), save_steps=3).train()
    if not is_open:
        first.run.finish()
    trainer(second, save_steps=3).train(resume_from_checkpoint=True)
    assert [step for step, _ in points(ended(second))["train/loss"]] == [1, 2, 3, 4, 5, 6]
    both = rankzero.read_run(second.run.dir, keep_rewound=True)
    steps, values = zip(*points(both)["train/loss"], strict=True)
    assert steps == (1, 2, 3, 4, 5, 4, 5, 6)
    np.testing.assert_allclose(values[3:5], values[5:7])  # a training that resumes repeats itself


def test_a_new_run_begins_if_the_old_one_is_not_wanted_or_gone(said):
    first = RankzeroCallback()
    trainer(first, max_steps=4).train()
    first.run.finish()
    new = RankzeroCallback(resume=False)
    trainer(new).train(resume_from_checkpoint=True)
    named = RankzeroCallback(run_id="named")
    trainer(named).train(resume_from_checkpoint="out/checkpoint-4")
    shutil.rmtree(first.run.dir)
    gone = RankzeroCallback()
    trainer(gone).train(resume_from_checkpoint="out/checkpoint-4")
    assert len({first.run.id, new.run.id, named.run.id, gone.run.id}) == 4
    assert named.run.id == "named"
    assert [message for message in said if "cannot be continued" in message] == said
    assert len(said) == 1


def test_a_checkpoint_that_was_made_without_the_callback_can_be_resumed():
    trainer(max_steps=2).train()
    callback = RankzeroCallback()
    trainer(callback).train(resume_from_checkpoint=True)
    assert json.loads(Path("out/checkpoint-6/trainer_state.json").read_text())["stateful_callbacks"]["rankzero"] == {
        "run_id": callback.run.id,
        "project": "default",
    }


# Hyperparameter search


def searched(n_trials, *others, skipped=(), **settings):
    """Search with Optuna, and return what each trial has logged that does not end before its training."""
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(50)
    runs = []

    def space(trial):
        if trial.number in skipped:
            raise optuna.TrialPruned
        return {"learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2)}

    class Trials(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            runs.append(callback.run)

    callback = RankzeroCallback()
    made = Trainer(
        args=trainer(run_name="search", eval_strategy="steps", eval_steps=3).args, train_dataset=DATA,
        eval_dataset=DATA, model_init=lambda: LlamaForCausalLM(TINY), callbacks=[callback, Trials(), *others],
    )  # fmt: skip
    made.hyperparameter_search(hp_space=space, n_trials=n_trials, direction="minimize", backend="optuna", **settings)
    callback.run.finish()
    assert len({run.id for run in runs}) == n_trials - len(skipped)
    return [rankzero.read_run(run.dir) for run in runs]


def test_each_trial_of_a_search_is_a_run(monkeypatch):
    monkeypatch.setenv("RANKZERO_RUN_ID", "given")

    class SecondTrialRaises(TrainerCallback):
        trial = 0

        def on_train_begin(self, args, state, control, **kwargs):
            self.trial += 1

        def on_step_end(self, args, state, control, **kwargs):
            if (self.trial, state.global_step) == (2, 3):
                raise ValueError("trial 2 fails")

    found = searched(4, SecondTrialRaises(), skipped=(1,), catch=(ValueError,))
    assert [each.status for each in found] == ["success", "failed", "success"]
    assert [each.info.name for each in found] == ["search-0", "search-2", "search-3"]
    assert [each.info.id for each in found] == ["given-0", "given-2", "given-3"]
    assert [each.params["trial"]["number"] for each in found] == [0, 2, 3]
    assert all(each.info.group == "search" for each in found)
    rates = [each.params["trial"]["learning_rate"] for each in found]
    assert rates == [each.params["learning_rate"] for each in found]
    assert len(set(rates)) == 3
    assert [[saved.step for saved in each.checkpoints] for each in found] == [[2, 4, 6], [2], [2, 4, 6]]


def test_a_trial_that_is_pruned_is_aborted_even_at_its_last_step():
    optuna = pytest.importorskip("optuna")

    class Prunes(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return (trial.number, trial.last_step) in ((0, 3), (1, 6))

    found = searched(3, pruner=Prunes())
    assert [each.status for each in found] == ["aborted", "aborted", "success"]
    assert [points(each)["eval/loss"][-1][0] for each in found] == [3, 6, 6]
    assert ["train/train_loss" in each.metrics for each in found] == [False, False, True]


# Completions of TRL


def test_completions_that_trl_writes_to_files_are_tables_unless_they_are_from_before():
    import pandas as pd

    def write(step):
        os.makedirs("out/completions", exist_ok=True)
        frame = pd.DataFrame({"step": [step], "completion": ["so"]})
        frame.to_parquet(f"out/completions/completions_{step:05d}.parquet")

    class Completes(TrainerCallback):
        def on_log(self, args, state, control, **kwargs):
            write(state.global_step)

    write(7)
    callback = RankzeroCallback()
    made = trainer(callback, Completes(), max_steps=2)
    made.args.log_completions = True
    made.train()
    tables = ended(callback).tables["completions"]
    assert [(each.step, each.read()[1]) for each in tables] == [(1, [[1, "so"]]), (2, [[2, "so"]])]


# By name, in scripts that nobody changes

SCRIPT = """
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback
import torch

class Model(torch.nn.Linear):
    def forward(self, input_ids, labels):
        return {"loss": super().forward(input_ids).square().mean()}

rows = [{"input_ids": torch.ones(2), "labels": torch.ones(1)}] * 4
arguments = TrainingArguments("out", max_steps=2, logging_steps=1, use_cpu=True, report_to="rankzero")
Trainer(Model(2, 1), arguments, train_dataset=rows).train()
"""


def train_as(variable, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {**os.environ, "RANKZERO_INTEGRATIONS": variable, "RANKZERO_NAME": "by-name"}
    command = [sys.executable, "train.py"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=A_WHILE, check=False)


@pytest.mark.slow
def test_a_script_names_rankzero_where_the_environment_asks_for_it(tmp_path):
    done = train_as("transformers", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RANKZERO_INTEGRATIONS" not in done.stderr
    data = only_run()
    assert [step for step, _ in points(data)["train/loss"]] == [1, 2]
    assert (data.info.name, data.status) == ("by-name", "success")


@pytest.mark.slow
def test_without_being_asked_for_it_is_unknown_and_a_wrong_name_is_warned_of(tmp_path):
    done = train_as("transformer", tmp_path)
    assert "there is no integration transformer; there are accelerate, tensorboard, transformers, wandb" in done.stderr
    assert "ValueError: rankzero is not supported" in done.stderr


# Ranks


@pytest.mark.slow
def test_a_checkpoint_is_kept_when_all_ranks_have_written_it(tmp_path):
    script = Path(__file__).parent / "scripts" / "transformers_ranks.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=A_WHILE, check=False)
    assert done.returncode == 0, done.stderr
    data = only_run()
    assert [each.step for each in data.checkpoints] == [1, 2, 3]
    for each in data.checkpoints:
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(os.listdir(each.path))
    assert [step for step, _ in points(data)["train/loss"]] == [1, 2, 3]
    assert len(data.texts["note"]) == 1
    assert data.status == "success"
