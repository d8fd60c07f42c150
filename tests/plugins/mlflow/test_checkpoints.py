"""Checkpoints and other files: content, aliases, and versions of a registered model."""

import math
from pathlib import Path

import pytest
import torch
from kept_files import snapshot
from plugins.mlflow.tracked import Held

from rankzero.events import structs
from rankzero.testing.journals import DyingCourier, JournalOf, KilledError

TIME = 1_700_000_000.25


@pytest.fixture
def saved(tmp_path):
    """Write files, and return their path."""

    def save(name, content=b"weights"):
        path = tmp_path / "saved" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return save


def test_a_checkpoint_with_score_and_metadata(on_server, saved):
    metadata = {"monitor": "val/loss", "shape": torch.tensor([1, 2]), "path": Path("a"), "nan": math.nan}
    path = saved("epoch=1-val_loss=0.50.ckpt")
    on_server.log_checkpoint(path, score=0.5, step=7, aliases=["latest", "best"], metadata=metadata)
    held = Held(on_server)
    folder = "checkpoints/epoch=1-val_loss=0.50-step-7"
    assert held.files() == [f"{folder}/epoch=1-val_loss=0.50.ckpt", f"{folder}/metadata.json"]
    assert held.read(f"{folder}/epoch=1-val_loss=0.50.ckpt") == b"weights"
    assert held.read_json(f"{folder}/metadata.json") == {
        "score": 0.5,
        "step": 7,
        "aliases": ["latest", "best"],
        "monitor": "val/loss",
        "shape": [1, 2],
        "path": "a",
        "nan": "NaN",
    }


def test_a_directory(on_server, saved):
    saved("model/weights/layer=1.bin", b"1")
    saved("model/what#is?this.txt", b"2")
    folder = saved("model/empty", b"").parent
    on_server.log_checkpoint(folder, step=1, aliases=["best"])
    downloaded = Path(on_server.download_checkpoint("best"))
    found = {str(path.relative_to(downloaded)): path.read_bytes() for path in downloaded.rglob("*") if path.is_file()}
    assert found == {"weights/layer=1.bin": b"1", "what~23~is~3F~this.txt": b"2", "empty": b""}


def test_aliases_move(on_server, saved, tmp_path):
    for step, aliases in enumerate([["latest", "best"], ["latest"], ["latest", "best"], ["latest", "swa [1]"]]):
        on_server.log_checkpoint(saved(f"e{step}.ckpt", b"%d" % step), step=step, aliases=aliases)
    found = {alias: Path(on_server.download_checkpoint(alias)).read_bytes() for alias in ("best", "latest", "swa [1]")}
    assert found == {"best": b"2", "latest": b"3", "swa [1]": b"3"}
    copy = on_server.download_checkpoint("best", tmp_path / "new" / "folder")
    assert Path(copy).is_relative_to(tmp_path / "new" / "folder")
    with pytest.raises(LookupError, match=r"has the alias 'worst'; there are: best, latest, swa"):
        on_server.download_checkpoint("worst")


def test_no_checkpoint(logger):
    with pytest.raises(LookupError, match="there are: none"):
        logger.download_checkpoint("best")


def test_reading_a_checkpoint_leaves_the_run_as_it_is(logger, make_logger, saved):
    logger.log_checkpoint(saved("a.ckpt"), aliases=["best"])
    logger.finalize("failed")
    before = Held(logger).info
    reader = make_logger(run_id=logger.run_id)
    assert Path(reader.download_checkpoint("best")).read_bytes() == b"weights"
    reader.close()
    after = Held(logger).info
    assert (after.status, after.end_time) == (before.status, before.end_time) == ("FAILED", before.end_time)


@pytest.mark.parametrize("name", ["a#b?c%41.ckpt", "größe.ckpt", "x" * 240 + ".ckpt", "no suffix"])
def test_odd_file_names(on_server, saved, name):
    on_server.log_checkpoint(saved(name), step=1, aliases=["best"])
    assert Path(on_server.download_checkpoint("best")).read_bytes() == b"weights"


# Registered models


@pytest.fixture
def registering(make_logger, mlflow_server, request):
    """A logger that makes each checkpoint a version of a model, and the model's name."""
    name = request.node.name
    return make_logger(tracking_uri=mlflow_server.uri, registered_model_name=name), name


def test_versions_of_a_model(registering, saved):
    logger, model = registering
    for step, aliases in enumerate([["latest", "best"], ["latest", "v1"], ["latest", "best", "V7", "prod"]]):
        logger.log_checkpoint(
            saved(f"e{step}.ckpt"), score=step / 2, step=step, aliases=aliases, metadata={"mode [0]": "min"}
        )
    held = Held(logger)
    versions = {int(each.version): each for each in held.client.search_model_versions(f"name = '{model}'")}
    assert {number: (each.run_id, each.source) for number, each in versions.items()} == {
        step + 1: (logger.run_id, f"{held.info.artifact_uri}/checkpoints/e{step}-step-{step}") for step in range(3)
    }
    assert versions[2].tags == {"score": "0.5", "step": "1", "aliases": "['latest', 'v1']", "mode :5B:0:5D:": "min"}
    assert held.client.get_registered_model(model).aliases == {"best": "3", "prod": "3"}


def test_a_checkpoint_that_is_delivered_again_is_one_version(make_logger, mlflow_server, run_info, saved):
    journal = JournalOf(run_info)
    kept = snapshot(saved("a.ckpt"), Path(run_info.dir))
    journal.add(structs.Checkpoint(TIME, kept, score=math.inf, step=1, aliases=["best"]))

    def make():
        return make_logger(tracking_uri=mlflow_server.uri, registered_model_name="delivered-again")

    with pytest.raises(KilledError):
        journal.deliver(make, courier=DyingCourier)
    journal.deliver(make)
    held = Held(journal.last)
    assert len(held.client.search_model_versions("name = 'delivered-again'")) == 1
    assert held.read_json("checkpoints/a-step-1/metadata.json")["score"] == "Infinity"


# Other files


def test_artifacts(on_server, saved):
    on_server.log_artifact(saved("data.csv", b"1"))
    on_server.log_artifact(saved("b.csv", b"2"), name="table", type="dataset", aliases=["v1"], metadata={"rows": 3})
    on_server.log_artifact(saved("folder/inner/a.txt", b"3").parents[1], name="sources/python")
    held = Held(on_server)
    assert {path: held.read(path) for path in held.files() if "metadata" not in path} == {
        "data.csv": b"1",
        "table.csv": b"2",
        "sources/python/inner/a.txt": b"3",
    }
    assert held.read_json("table.metadata.json") == {"type": "dataset", "aliases": ["v1"], "metadata": {"rows": 3}}


def test_artifacts_of_a_run_have_their_names(make_logger, run_info):
    stored = Path(run_info.dir, "media", "ab")
    stored.mkdir(parents=True)
    (stored / "abcdef.csv").write_bytes(b"1")
    journal = JournalOf(run_info)
    journal.add(
        structs.Artifact(TIME, "media/ab/abcdef.csv", "data.csv"),
        structs.Artifact(TIME, "media/ab/abcdef.csv", "../#"),
    )
    journal.deliver(make_logger)
    held = Held(journal.last)
    assert held.files() == ["data.csv", "~2E~~2E~~2F~~23~~2E~csv"]
