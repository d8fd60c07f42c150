"""Deliver a rescued run: trackers have the data that was logged with Neptune's client."""

import struct

import pytest
from plugins.neptune import rescue_samples as samples
from plugins.wandb.arrived import arrived
from servers.event_files import events, scalars
from servers.wandb_server import WandbServer

from rankzero.cli import app as cli


@pytest.fixture(scope="module")
def run_dir(left_offline, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    assert cli.main(["import", "neptune", str(left_offline / "offline"), "--dir", str(runs)]) == 0
    return next((runs / "neptune").iterdir())


@pytest.mark.slow
def test_weights_and_biases(run_dir, use_environment, tmp_path):
    with WandbServer() as server:
        use_environment("WANDB_", server.environment(tmp_path))
        assert cli.main(["sync", str(run_dir), "--to", "wandb"]) == 0
        run = server.run(run_dir.name)
        tracked = arrived(run, server, texts={"notes", "lines"})
    assert server.problems == []
    points = {name: [(step, time, value) for step, value, time in each] for name, each in tracked.metrics.items()}
    assert (points["training/loss"], points["training/acc"]) == (samples.LOSS, samples.ACC)
    assert [value for *_, value in points["halves/step"]] == [0.5, 1.5]
    assert tracked.params["params"] == {**samples.PARAMS, "since": samples.DAY.isoformat()}
    assert (run.display_name, run.notes) == ("brave try", "why not")
    assert (sorted(tracked.tags), tracked.status) == (["kept", "late"], "failed")
    pictures = {(item.key, item.step, item.content) for item in tracked.items["image"] if item.key == "picture"}
    assert samples.PICTURE in {content for *_, content in pictures}
    assert samples.CHECKPOINT in {item.content for item in tracked.items["artifact"]}


@pytest.mark.filterwarnings("ignore:TensorBoardLogger ")
def test_tensorboard(run_dir):
    assert cli.main(["sync", str(run_dir), "--to", "tensorboard"]) == 0
    (log_dir,) = (run_dir.parents[1] / "tensorboard" / "neptune").iterdir()
    got = scalars(log_dir)
    for name, points in (("training/loss", samples.LOSS), ("training/acc", samples.ACC)):
        assert got[name] == [(step, struct.unpack("f", struct.pack("f", value))[0]) for step, _, value in points]
    tagged = [(each, value.tag) for each in events(log_dir) for value in each.summary.value]
    times = {(each.step, each.wall_time) for each, tag in tagged if tag == "training/loss"}
    assert times == {(step, time) for step, time, _ in samples.LOSS}
