"""`TensorBoardLogger.experiment` is a complete `SummaryWriter` of torch that shares the file of the verbs."""

from pathlib import Path

import numpy as np
import pytest
from servers.event_files import accumulated, events, scalars
from servers.tensorboard_server import LOADERS, tensorboard

import rankzero
from rankzero_tensorboard import TensorBoardLogger

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def event_files(directory):
    return sorted(path.name for path in Path(directory).iterdir() if "tfevents" in path.name)


def plugin_of(logger, tag):
    return accumulated(logger.log_dir).SummaryMetadata(tag).plugin_data.plugin_name


def test_reading_it_writes_nothing(logger, tmp_path):
    assert isinstance(logger.experiment, torch.utils.tensorboard.SummaryWriter)
    assert logger.experiment is logger.experiment
    assert not list(tmp_path.iterdir())


def test_native_calls_and_verbs_share_a_file_in_order(logger):
    logger.log_metrics({"loss": 0.5}, 0)
    logger.experiment.add_scalar("native", 1.5, 1)
    logger.log_metrics({"loss": 0.25}, 2)
    logger.experiment.add_text("note", "x", 3)
    logger.log_text("note", ["value"], [["x"]], step=4)
    assert [event.step for event in events(logger.log_dir)][1:] == [0, 1, 2, 3, 4]
    assert len(event_files(logger.log_dir)) == 1
    assert scalars(logger.log_dir) == {"loss": [(0, 0.5), (2, 0.25)], "native": [(1, 1.5)]}


def test_native_kinds(logger):
    writer = logger.experiment
    writer.add_pr_curve("pr", np.array([0, 1, 1, 0]), np.array([0.1, 0.9, 0.4, 0.6]), 1)
    writer.add_histogram("weights", torch.arange(10.0), 1)
    writer.add_image("picture", torch.zeros(3, 4, 4), 1)
    writer.add_custom_scalars({"all": {"loss": ["Multiline", ["loss/.*"]]}})
    writer.add_mesh("mesh", torch.zeros(1, 3, 3))
    assert plugin_of(logger, "pr") == "pr_curves"
    assert plugin_of(logger, "custom_scalars__config__") == "custom_scalars"
    assert plugin_of(logger, "mesh_VERTEX") == "mesh"
    tags = accumulated(logger.log_dir).Tags()
    assert (tags["images"], tags["histograms"]) == (["picture"], ["weights"])
    assert len(event_files(logger.log_dir)) == 1


def test_separate_files_of_add_scalars_and_embeddings_are_flushed_at_the_end(logger):
    logger.experiment.add_scalars("losses", {"a": 1.0, "b": 2.0}, 5)
    logger.experiment.add_embedding(torch.eye(3), metadata=["x", "y", "z"], tag="points")
    logger.finalize("success")
    assert scalars(Path(logger.log_dir, "losses_a")) == {"losses": [(5, 1.0)]}
    assert Path(logger.log_dir, "projector_config.pbtxt").exists()


def test_a_kept_writer_continues_after_close(logger):
    writer = logger.experiment
    writer.add_scalar("native", 1.0, 0)
    writer.close()
    writer.add_scalar("native", 2.0, 1)
    logger.close()
    writer.add_scalar("native", 3.0, 2)
    assert scalars(logger.log_dir) == {"native": [(0, 1.0), (1, 2.0), (2, 3.0)]}
    assert len(event_files(logger.log_dir)) == 1


class Model(torch.nn.Module):
    def __init__(self, example=None):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.example_input_array = example

    def forward(self, batch):
        return self.layer(batch)


def test_a_model_is_traced_on_request(tmp_path):
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    logger.log_graph(Model(torch.zeros(1, 2)))
    logger.close()
    assert any("Linear[layer]" in node.name for node in accumulated(logger.log_dir).Graph().node)
    TensorBoardLogger(tmp_path / "unwanted").log_graph(Model(torch.zeros(1, 2)))
    assert not (tmp_path / "unwanted").exists()


@pytest.mark.parametrize(("example", "why"), [(None, "no example_input_array"), (torch.zeros(1, 9), "RuntimeError")])
def test_a_failed_trace_causes_a_warning(tmp_path, example, why):
    logger = TensorBoardLogger(tmp_path, log_graph=True)
    with pytest.warns(UserWarning, match=f"(?s)graph is not logged: .*{why}"):
        logger.log_graph(Model(example))
    logger.close()


def test_beside_a_courier_it_has_a_separate_file(tmp_path):
    with rankzero.start("tensorboard", dir=tmp_path, run_id="r1", name="first", delivery="thread") as run:
        run.log_metrics({"loss": 0.5}, 0)
        run.experiment.add_pr_curve("pr", np.array([0, 1]), np.array([0.1, 0.9]), 0)
        run.log_metrics({"loss": 0.25}, 1)
    directory = tmp_path / "tensorboard" / "default" / "first-r1"
    native, values = event_files(directory)
    assert ".experiment." in native
    assert values.endswith(".values"), "it is the last, which TensorBoard follows"
    assert scalars(directory) == {"loss": [(0, 0.5), (1, 0.25)]}
    assert "pr" in accumulated(directory).Tags()["tensors"]


@pytest.mark.parametrize("loader", LOADERS)
def test_tensorboard_follows_the_values_while_both_files_grow(tmp_path, loader):
    options = {"run_id": "r1", "name": "first", "config": {"lr": 0.1}, "delivery": "thread"}
    with rankzero.start("tensorboard", dir=tmp_path, **options) as run:
        run.log_metrics({"loss": 0.5}, 0)
        run.experiment.add_scalar("native", 1.0, 0)
        run.flush()
        with tensorboard(tmp_path / "tensorboard", loader) as server:
            shown = "default/first-r1"
            server.until(lambda server: server.scalars(shown, "loss") and server.scalars(shown, "native"))
            run.experiment.add_scalar("native", 2.0, 1)
            run.log_metrics({"loss": 0.25}, 1)
            run.flush()
            server.until(lambda server: server.scalars(shown, "loss") == [(0, 0.5), (1, 0.25)])
            if loader == LOADERS[0]:
                server.until(lambda server: server.scalars(shown, "native") == [(0, 1.0), (1, 2.0)])
