"""``rankzero import hf``: the log in the checkpoints of Hugging Face's Trainer."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from importers.reading import import_all, import_one, points
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.integrations.integration_utils import rewrite_logs

from rankzero.importers.base import SkipRun
from rankzero.importers.sources.hf import HfImporter
from rankzero.importers.writing import Outcome
from rankzero.testing import ImporterContract

pytestmark = pytest.mark.usefixtures("undelivered")
PICKLE = ("training_args.bin", "it is a pickle, which could execute code, so it is not opened")


class TinyConfig(PretrainedConfig):
    model_type = "tiny"
    width = 3


class Tiny(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.linear = torch.nn.Linear(1, 1)
        self.post_init()

    def forward(self, x, labels=None):
        y = self.linear(x)
        return {"loss": (y - labels).square().mean(), "logits": y}


def train(directory, steps, resume=None, **options):
    """Train, and set the times of the checkpoints."""
    arguments = TrainingArguments(
        str(directory / "out"), max_steps=steps, logging_steps=2, save_steps=4, eval_strategy="steps", eval_steps=4,
        report_to=[], use_cpu=True, disable_tqdm=True, per_device_train_batch_size=1, **options,
    )  # fmt: skip
    rows = [{"x": torch.tensor([each / 8]), "labels": torch.tensor([each / 4])} for each in range(8)]
    trainer = Trainer(Tiny(TinyConfig()), arguments, train_dataset=rows, eval_dataset=rows[:2])
    trainer.train(resume_from_checkpoint=resume)
    for path in (directory / "out").glob("checkpoint-*/trainer_state.json"):
        changed = 1.7e9 + int(path.parent.name.split("-")[1])
        os.utime(path, (changed, changed))
    return trainer


class TestTrainer(ImporterContract):
    def make_importer(self):
        return HfImporter()

    def make_source(self, directory):
        train(directory, 8)
        for path in (directory / "out").rglob("*"):
            if path.suffix in (".pt", ".pth", ".safetensors"):
                path.unlink()
        return "out"

    def grow_source(self, directory):
        self.copy(directory / "out" / "checkpoint-8", directory / "out" / "checkpoint-12")

    def copy(self, old, new):
        """Save a checkpoint as the Trainer does after four more steps."""
        shutil.copytree(old, new)
        path = new / "trainer_state.json"
        state = json.loads(path.read_text())
        state["global_step"], state["best_metric"] = 12, 0.25
        state["log_history"] += [{"loss": 0.5, "epoch": 1.5, "step": 10}, {"eval_loss": 0.25, "epoch": 2.0, "step": 12}]
        path.write_text(json.dumps(state))
        os.utime(path, (1.7e9 + 12, 1.7e9 + 12))


def expected(log):
    """Return the points that Transformers' own integrations get for a log."""
    found = {}
    for entry in log:
        step = entry["step"]
        for name, value in rewrite_logs({key: value for key, value in entry.items() if key != "step"}).items():
            found.setdefault(name, []).append((step, value))
    return found


def test_a_training(tmp_path):
    trainer = train(tmp_path, 8, load_best_model_at_end=True)
    trainer.save_state()
    run, left_out = import_one(HfImporter(), "out")
    assert points(run) == expected(trainer.state.log_history)
    assert {"train/loss", "eval/loss", "train/train_runtime"} < run.metrics.keys()
    assert run.metrics["train/loss"].time[:4].tolist() == [1.7e9 + 4, 1.7e9 + 4, 1.7e9 + 8, 1.7e9 + 8]
    assert (run.params["model_type"], run.params["max_steps"]) == ("tiny", 8)
    assert run.params["best_metric"] == trainer.state.best_metric
    assert left_out == {PICKLE: 1}
    assert run.info.name == "out"


def test_a_training_that_was_resumed_is_continued(tmp_path):
    train(tmp_path, 4)
    first, left_out = import_one(HfImporter(), ".")
    assert left_out == {PICKLE: 1}
    trainer = train(tmp_path, 8, resume=True)
    run, _ = import_one(HfImporter(), "out")
    assert run.info.id == first.info.id
    assert run.params["max_steps"] == 8
    logged = [entry for entry in trainer.state.log_history if "train_runtime" not in entry]
    assert points(run) == expected(logged)


def test_a_log_that_was_superseded_is_counted(tmp_path):
    train(tmp_path, 8)
    state = json.loads(Path("out/checkpoint-8/trainer_state.json").read_text())
    old = Path("out/checkpoint-6/trainer_state.json")
    old.parent.mkdir()
    log = [entry for entry in state["log_history"] if entry["step"] <= 4]
    old.write_text(json.dumps({**state, "global_step": 6, "log_history": [*log, {"step": 6, "loss": math.nan}]}))
    run, left_out = import_one(HfImporter(), "out")
    superseded = "entries of checkpoint-6/trainer_state.json", "the training was resumed from an earlier checkpoint"
    assert left_out == {PICKLE: 1, superseded: 1}
    assert points(run) == expected(state["log_history"])


def test_each_trial_of_a_search_is_a_run():
    for trial in (0, 1):
        path = Path(f"out/run-{trial}/checkpoint-2/trainer_state.json")
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"global_step": 2, "log_history": [{"step": 2, "loss": trial, "note": "x"}]}))
    runs = import_all(HfImporter(), "out")
    assert [(each.info.name, each.outcome) for each in runs] == [("run-0", Outcome.NEW), ("run-1", Outcome.NEW)]


def test_a_checkpoint_without_a_log_is_skipped():
    Path("trainer_state.json").write_text('{"log_history": []}')
    (found,) = HfImporter().find(["."])
    with pytest.raises(SkipRun, match="nothing was logged"):
        found.header()
