"""The checkpoints of a ModelCheckpoint as W&B's artifacts: versions, names, content."""

import io
import os
from pathlib import Path

import pytest

pytest.importorskip("lightning")
import torch
import wandb
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger as LightningWandbLogger
from servers.lightning_model import SCORES, Model, data, trainer

import rankzero
from rankzero.cli import app
from rankzero_wandb import WandbLogger

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")

BEST_ONLY = {"monitor": "val/score", "mode": "min", "save_top_k": 1}
MAX_ONLY = {"monitor": "val/score", "mode": "max", "save_top_k": 1}
ALL = {"monitor": "val/score", "mode": "min", "save_top_k": -1}
AND_LAST = {**BEST_ONLY, "save_last": True}
NEWEST = {}


def versions(server, name, project="p"):
    """Return (file, score, epoch, aliases) of each version of an artifact."""
    with server.store.lock:
        collection = server.store.artifacts.collections.get((server.store.entity, project, name))
    return [
        (version.metadata["original_filename"], version.metadata["score"], epoch_of(version), version.aliases)
        for version in (collection.versions if collection else [])
    ]


def epoch_of(version):
    assert (version.type, list(version.files)) == ("model", ["model.ckpt"])
    return torch.load(io.BytesIO(version.files["model.ckpt"]), weights_only=False)["epoch"]


def fit(logger, directory, settings, epochs=4):
    callback = ModelCheckpoint(directory, "{epoch}", **settings)
    trainer(logger, epochs=epochs, callbacks=[callback]).fit(Model(), data(), data())
    return callback


def saved(epoch, *aliases):
    return (f"epoch={epoch}.ckpt", SCORES[epoch], epoch, sorted(aliases))


EXPECTED = {
    "none": (False, ALL, []),
    "the greatest": (True, MAX_ONLY, [saved(3, "best", "latest")]),
    "each improvement": ("all", BEST_ONLY, [saved(0), saved(2, "best", "latest")]),
    "each": ("all", ALL, [saved(0), saved(1), saved(2, "best"), saved(3, "latest")]),
}


@pytest.fixture
def start(here, tmp_path):
    def start(delivery="thread", **options):
        return rankzero.start({"wandb": options}, project="p", dir=tmp_path / "runs", delivery=delivery)

    return start


@pytest.mark.parametrize("case", EXPECTED)
def test_which_checkpoints_arrive_from_a_run(start, server, tmp_path, case):
    log_model, settings, expected = EXPECTED[case]
    with start(log_model=log_model) as run:
        fit(run, tmp_path / "saved", settings)
    assert versions(server, f"model-{run.id}") == expected


@pytest.mark.parametrize("log_model", [True, "all"])
@pytest.mark.parametrize("settings", [BEST_ONLY, ALL, AND_LAST, NEWEST], ids=["best", "all", "last", "newest"])
def test_lightnings_logger_has_the_same(make_logger, server, tmp_path, log_model, settings):
    theirs = LightningWandbLogger(id="theirs", project="p", save_dir=tmp_path, log_model=log_model)
    ours = make_logger(id="ours", log_model=log_model)
    for logger in (ours, theirs):
        fit(logger, tmp_path / logger.version, settings)
        logger.experiment.finish()
    found = versions(server, "model-ours")
    assert found == versions(server, "model-theirs")
    metadata = [server.artifact(f"model-{name}:latest", "p").metadata for name in ("ours", "theirs")]
    assert metadata[0] == metadata[1]
    assert set(metadata[1]["ModelCheckpoint"]) == {
        "monitor", "mode", "save_last", "save_top_k", "save_weights_only", "_every_n_train_steps"
    }  # fmt: skip


def test_checkpoints_of_a_failed_run_arrive(start, server, tmp_path):
    with pytest.raises(IndexError), start(log_model=True) as run:
        fit(run, tmp_path / "saved", BEST_ONLY, epochs=5)
    assert versions(server, f"model-{run.id}") == [saved(2, "best", "latest")]
    assert server.run(run.id).state == "failed"


# By hand


def test_another_name_and_moving_aliases(make_logger, server, tmp_path):
    logger = make_logger(checkpoint_name="my model/1")
    path = tmp_path / "a.ckpt"
    for number, aliases in enumerate([["latest", "best"], ["swa"], ["best"]]):
        path.write_bytes(b"%d" % number)
        logger.log_checkpoint(path, score=number / 2, step=number, aliases=aliases, metadata={"note": Path("x")})
        path.unlink()  # W&B's client has a copy
    logger.close()
    found = {alias: server.artifact(f"my-model-1:{alias}", "p") for alias in ("best", "swa", "latest", "v0")}
    assert {alias: version.files for alias, version in found.items()} == {
        alias: {"model.ckpt": content} for alias, content in zip(found, [b"2", b"1", b"2", b"0"], strict=True)
    }
    assert found["best"].metadata == {"score": 1.0, "step": 2, "original_filename": "a.ckpt", "note": "x"}
    assert found["best"].run == server.run(logger.version).path


def test_a_directory(make_logger, start, server, tmp_path):
    folder = tmp_path / "epoch=1.ckpt"
    for name, content in {"meta.pt": b"1", "shards/0.distcp": b"2" * 5000}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    logger = make_logger()
    logger.log_checkpoint(folder, aliases=["best"])
    logger.close()
    with start() as run:
        run.log_checkpoint(folder, aliases=["best"])
    expected = {"model.ckpt/meta.pt": b"1", "model.ckpt/shards/0.distcp": b"2" * 5000}
    for run_id in (logger.version, run.id):
        assert server.artifact(f"model-{run_id}:best", "p").files == expected


def test_a_file_deleted_before_delivery(start, server, tmp_path):
    path = tmp_path / "a.ckpt"
    with start("off", log_model="all") as run:
        fit(run, tmp_path / "saved", BEST_ONLY)
        path.write_bytes(b"by hand")
        run.log_checkpoint(path, score=9, aliases=["mine"])
        path.unlink()
    assert os.listdir(tmp_path / "saved") == ["epoch=2.ckpt"]
    assert app.main(["sync", str(run.dir)]) == 0
    name = f"model-{run.id}"
    assert server.artifact(f"{name}:mine", "p").files == {"model.ckpt": b"by hand"}
    found = [server.artifact(f"{name}:{alias}", "p") for alias in ("v0", "best")]
    assert [epoch_of(version) for version in found] == [0, 2]


# Loading back


def test_a_checkpoint_is_loaded_back(make_logger, server, tmp_path):
    logger = make_logger(log_model="all")
    callback = fit(logger, tmp_path / "saved", BEST_ONLY)
    logger.close()
    reference = f"tester/p/model-{logger.version}:best"
    reader = make_logger(id="reader")
    used = reader.use_artifact(reference, "model")
    folders = [
        used.download(root=str(tmp_path / "used")),
        WandbLogger.download_artifact(reference, tmp_path / "down", "model"),
        WandbLogger.download_artifact(reference, str(tmp_path / "without"), use_artifact=False),
    ]
    own = make_logger(id=logger.version)
    folders.append(Path(own.download_checkpoint("best", tmp_path / "own")).parent)
    with pytest.raises(LookupError, match=f"W&B has no checkpoint model-{logger.version}:worst"):
        own.download_checkpoint("worst")
    own.close()
    for folder in folders:
        assert Path(folder, "model.ckpt").read_bytes() == Path(callback.best_model_path).read_bytes()
    model = Model.load_from_checkpoint(Path(folders[1], "model.ckpt"), weights_only=False)
    assert (model.hparams.lr, model.hparams.sizes) == (0.1, (2, 1))
    reader.close()
    assert wandb.run is None
    assert Path(WandbLogger.download_artifact(reference, tmp_path / "later"), "model.ckpt").exists()
    assert set(server.artifact(f"model-{logger.version}:best", "p").used_by) == {"tester/p/reader"}
