"""Frameworks that are too large for the other tests: `nox -s large_frameworks` installs them and runs this file.

Each test runs the samples of docs/how-to/frameworks.md, beside what the framework itself keeps of the same training.
"""

import csv
import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from integrations.reading import only_run, points
from markdown_it import MarkdownIt
from servers.event_files import scalars

import rankzero

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "frameworks.md"
X = torch.arange(16.0).reshape(8, 2) / 16
Y = (X.sum(dim=1) > 1).long()
LLAMA = {"vocab_size": 32, "num_layers": 1, "num_heads": 1, "num_kv_heads": 1, "embed_dim": 8, "max_seq_len": 64}
RECIPE = """
model: {_component_: torchtune.models.llama2.llama2, LLAMA}
tokenizer: {_component_: torchtune.models.llama2.llama2_tokenizer, path: tokenizer.model}
dataset: {_component_: torchtune.datasets.text_completion_dataset, source: text, data_files: text.txt}
optimizer: {_component_: torch.optim.SGD, lr: 0.1}
loss: {_component_: torch.nn.CrossEntropyLoss}
checkpointer:
  _component_: torchtune.training.FullModelTorchTuneCheckpointer
  model_type: LLAMA2
  checkpoint_dir: base
  checkpoint_files: [model.pt]
  output_dir: out
output_dir: out
resume_from_checkpoint: false
device: cpu
dtype: fp32
seed: 1
shuffle: false
epochs: 1
batch_size: 2
max_steps_per_epoch: 3
gradient_accumulation_steps: 1
optimizer_in_bwd: false
compile: false
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore:invalid escape sequence"),
    pytest.mark.filterwarnings(r"ignore:::(composer|deepspeed|fastai|mcli|ray|torch|torchao|torchtitan|torchvision)\b"),
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated"),  # MosaicML's client uses it
    pytest.mark.filterwarnings("ignore:unclosed file .*ds_config:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in.*ds_config"),
]


@pytest.fixture(autouse=True)
def here(undelivered, tmp_path, monkeypatch):
    """Train in an empty directory, with nothing in the home directory and nothing from the internet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture
def process_group(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def samples(heading):
    """The code blocks of a section of the page."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [token.content for token in MarkdownIt().parse(section) if token.type == "fence"]


def run(sample, **names):
    """Run a sample in which these names are known, and return all its names."""
    namespace = {"__name__": "__main__", "rankzero": rankzero, **names}
    exec(compile(sample, PAGE.name, "exec"), namespace)
    return namespace


def successful(project):
    data = only_run(project)
    assert data.status == "success"
    return data


def test_ray_trains_as_one_run_and_tunes_as_a_run_of_each_trial(tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("RANKZERO_DIR", str(tmp_path / "rankzero-runs"))
    train, tune = samples("Ray Train and Tune")
    run(train)
    run(tune)
    ray.shutdown()
    data = successful("lines")
    assert (data.params, points(data)) == ({"lr": 0.1}, {"loss": [(0, 0.1)]})
    trials = [rankzero.read_run(path) for path in Path("rankzero-runs/search").iterdir()]
    assert {(data.params["lr"], data.status) for data in trials} == {(0.1, "success"), (0.2, "success")}
    assert [len({data.info.name for data in trials}), len({data.info.group for data in trials})] == [2, 1]
    for data in trials:
        assert points(data) == {"loss": [(step, data.params["lr"] * step) for step in range(10)]}


def test_fastai_logs_what_its_recorder_keeps():
    import pandas as pd
    from fastai.tabular.all import Normalize, TabularDataLoaders

    frame = pd.DataFrame({"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "y": Y.tolist()})
    columns = {"procs": [Normalize], "cont_names": ["a", "b"], "y_names": "y"}
    (sample,) = samples("fastai")
    learn = run(sample, dls=TabularDataLoaders.from_df(frame, bs=2, valid_idx=[0, 7], **columns))["learn"]
    learn.cbs[-1].rankzero_run.finish()
    data = successful("tables")
    found = points(data)
    assert found["train/loss"] == list(enumerate(map(float, learn.recorder.losses), 1))
    assert found["lr_0"] == list(enumerate(map(float, learn.recorder.lrs), 1))
    for column, name in enumerate(["val/loss", "val/accuracy"], 1):
        assert found[name] == [(3, learn.recorder.values[0][column]), (6, learn.recorder.values[1][column])]
    assert (data.params["epochs"], data.params["batch_size"]) == (2, 2)


def test_composer_logs_what_it_keeps_in_memory():
    from composer import Trainer
    from composer.loggers import InMemoryLogger
    from composer.models import ComposerClassifier

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=4)
    model, memory = ComposerClassifier(torch.nn.Linear(2, 2), num_classes=2), InMemoryLogger()
    (sample,) = samples("Composer")
    run(sample, model=deepcopy(model), data=data)["logger"].close()
    Trainer(model=model, train_dataloader=data, max_duration="2ep", loggers=[memory]).fit()
    found = points(successful("lines"))
    theirs = {name: [(time.batch.value, float(value)) for time, value in rows] for name, rows in memory.data.items()}
    assert found == theirs
    assert len(found["loss/train/total"]) == 4


def test_torchtunes_recipe_logs_what_it_shows():
    import sentencepiece
    from torchtune.models.llama2 import llama2

    Path("text.txt").write_text("to be or not to be\nthat is the question\n" * 4)
    sentencepiece.SentencePieceTrainer.train(
        input="text.txt", model_prefix="tokenizer", vocab_size=LLAMA["vocab_size"], hard_vocab_limit=False
    )
    Path("base").mkdir()
    torch.save(llama2(**LLAMA).state_dict(), "base/model.pt")
    (sample,) = samples("torchtune")
    model = ", ".join(f"{name}: {value}" for name, value in LLAMA.items())
    Path("recipe.yaml").write_text(sample + RECIPE.replace("LLAMA}", f"{model}}}"))
    # Not the command `tune`, which Ray has, too.
    command = [sys.executable, "-m", "torchtune._cli.tune", "run", "full_finetune_single_device", "--config"]
    done = subprocess.run([*command, "recipe.yaml"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data = successful("llama")
    found = points(data)
    shown = re.findall(r"1\|(\d)\|Loss: ([\d.]+)", done.stderr)
    assert dict(found["loss"]) == {int(step): pytest.approx(float(loss)) for step, loss in shown}
    assert [step for step, _ in found["loss"]] == [1, 2, 3]
    assert found.keys() == {"loss", "lr", "tokens_per_second_per_gpu"}
    assert (data.params["optimizer"]["lr"], data.params["metric_logger"]["project"]) == (0.1, "llama")


def test_torchtitans_metrics_processor_logs_what_its_event_files_have(process_group, monkeypatch):
    from torchtitan.components import metrics
    from torchtitan.distributed import ParallelDims

    memory = {"get_peak_stats": lambda: metrics.DeviceMemStats(*range(6)), "reset_peak_stats": lambda: None}
    no_gpu = SimpleNamespace(device_name="A100", **memory)
    monkeypatch.setattr(metrics, "build_device_memory_monitor", lambda: no_gpu)
    (sample,) = samples("torchtitan")
    config = run(sample)["llama3_debugmodel_rankzero"]()
    config.metrics.enable_tensorboard = True
    dims = ParallelDims.from_config(config.parallelism, 1)
    processor = config.metrics.build(parallel_dims=dims, dump_folder=".", config_dict=config.to_dict())
    processor.num_flops_per_token = 1
    processor.data_loading_times.append(0.1)
    processor.log(1, global_avg_loss=2.5, global_max_loss=3.5, grad_norm=0.5)
    processor.log_validation(loss=2.25, step=2)
    processor.close()
    data = successful("llama")
    found = points(data)
    (event_files,) = Path("tb").iterdir()
    theirs = scalars(event_files)
    assert found.keys() == theirs.keys()
    for name, rows in theirs.items():
        np.testing.assert_allclose(found[name], rows, rtol=1e-6)
    assert found["loss_metrics/global_avg_loss"] == [(1, 2.5)]
    assert found["validation_metrics/loss"] == [(2, 2.25)]
    assert (data.params["model_spec"]["flavor"], data.params["metrics"]["loggers"]) == ("debugmodel", "csv")


def test_deepspeed_logs_what_its_own_monitor_does(process_group, monkeypatch):
    import deepspeed

    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm", False)  # it would be compiled
    config = {
        "train_batch_size": 4,
        "optimizer": {"type": "Adam", "params": {"torch_adam": True}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 4}},
        "wall_clock_breakdown": True,
        "csv_monitor": {"enabled": True, "output_path": "theirs", "job_name": "job"},
    }
    Path("ds_config.json").write_text(json.dumps(config))

    def train(engine):
        for x, y in zip(X.split(4), Y.split(4), strict=True):
            engine.backward(torch.nn.functional.cross_entropy(engine(x), y))
            engine.step()

    (sample,) = samples("DeepSpeed")
    engine = run(sample, model=torch.nn.Linear(2, 2))["engine"]
    train(engine)
    engine.monitor.close()
    train(deepspeed.initialize(model=torch.nn.Linear(2, 2), config="ds_config.json")[0])
    found = points(successful("lines"))
    theirs = {}
    for path in Path("theirs/job").iterdir():
        (_, name), *rows = csv.reader(path.read_text().splitlines())
        theirs[f"Train/Samples/{name}"] = [(int(step), float(value)) for step, value in rows]
    assert found["Train/Samples/lr"] == theirs["Train/Samples/lr"]
    assert {name: [step for step, _ in rows] for name, rows in found.items()} == {name: [4, 8] for name in theirs}
