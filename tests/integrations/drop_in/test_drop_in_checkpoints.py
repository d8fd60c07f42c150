"""Which checkpoints are uploaded, under which names, with which aliases and metadata."""

import io
from pathlib import Path

import pytest
import torch
from integrations.drop_in.page import compare
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from plugins.mlflow.tracked import Held
from servers.lightning_model import SCORES, Model, data, trainer

CASES = {
    "two are kept": (True, {"monitor": "val/score", "save_top_k": 2}),
    "all are kept": (True, {"monitor": "val/score", "save_top_k": -1}),
    "the last is kept too": (True, {"monitor": "val/score", "save_last": True}),
    "each that is saved": ("all", {"monitor": "val/score", "save_top_k": 1, "mode": "max"}),
}


def fit(bench, kind, name, log_model, settings, **options):
    """Return the logger of a fit of four epochs, of which a ModelCheckpoint has saved some."""
    logger = bench.make(kind, name, log_model=log_model, **options)
    keeper = ModelCheckpoint(bench.directory / name / kind.__module__, "{epoch}", **settings)
    trainer(logger, epochs=4, callbacks=[keeper]).fit(Model(), data(), data())
    return logger


def epoch_of(content):
    return torch.load(io.BytesIO(content), weights_only=False)["epoch"]


class OfWandb:
    """What W&B has of a run's checkpoints."""

    def __init__(self, bench, logger):
        bench.end(logger)
        held = bench.server.store.artifacts.collections.values()
        named = [each for each in held if each.name == f"model-{logger.version}"]
        self.versions = named[0].versions if named else []

    def epochs(self):
        return [epoch_of(next(iter(version.files.values()))) for version in self.versions]

    def seen(self):
        return {
            "files of checkpoints": [list(version.files) for version in self.versions],
            "aliases of checkpoints": [sorted(version.aliases) for version in self.versions],
            "metadata of checkpoints": [version.metadata for version in self.versions],
        }


class OfMlflow:
    """What MLflow has of a run's checkpoints."""

    def __init__(self, bench, logger):
        self.held = Held(bench.uri, logger.run_id)

    def epochs(self):
        return [epoch_of(self.held.read(path)) for path in self.held.files() if path.endswith(".ckpt")]

    def seen(self):
        return {"files of checkpoints": self.held.files()}


HOLDERS = {"wandb": OfWandb, "mlflow": OfMlflow}


@pytest.mark.slow
@pytest.mark.parametrize("tracker", HOLDERS)
def test_what_is_uploaded(bench):
    found = []
    for kind in bench.each():
        seen = {}
        for case, (log_model, settings) in CASES.items():
            held = HOLDERS[bench.tracker](bench, fit(bench, kind, case.replace(" ", ""), log_model, settings))
            assert held.epochs(), "there are some"
            seen[case] = held.epochs()
        found.append({"which checkpoints": seen, **held.seen()})
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", HOLDERS)
def test_a_fit_that_fails(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a", log_model=True)
        keeper = ModelCheckpoint(bench.directory / kind.__module__, "{epoch}", monitor="val/score")
        with pytest.raises(IndexError):
            trainer(logger, epochs=len(SCORES) + 1, callbacks=[keeper]).fit(Model(), data(), data())
        found.append({"checkpoints of a fit that fails": HOLDERS[bench.tracker](bench, logger).epochs()})
    compare(bench.tracker, *found)


@pytest.mark.parametrize("tracker", HOLDERS)
def test_two_callbacks(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a", log_model=True)
        keepers = [
            ModelCheckpoint(bench.directory / kind.__module__, f"{mode}{{epoch}}", monitor="val/score", mode=mode)
            for mode in ("min", "max")
        ]
        trainer(logger, callbacks=keepers).fit(Model(), data(), data())
        found.append({"checkpoints of two callbacks": HOLDERS[bench.tracker](bench, logger).epochs()})
    compare(bench.tracker, *found)


class Directories(TorchCheckpointIO):
    """Saves a checkpoint as a directory, as sharded strategies do."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        Path(path).mkdir(parents=True)
        super().save_checkpoint(checkpoint, Path(path, "part.ckpt"), storage_options)


@pytest.mark.parametrize("tracker", HOLDERS)
def test_checkpoints_that_are_directories(bench):
    found = []
    for kind in bench.each():
        logger = bench.make(kind, "a", log_model=True)
        keeper = ModelCheckpoint(bench.directory / kind.__module__, "{epoch}", monitor="val/score")
        trainer(logger, epochs=1, callbacks=[keeper], plugins=[Directories()]).fit(Model(), data(), data())
        found.append({"checkpoints that are directories": HOLDERS[bench.tracker](bench, logger).epochs()})
    compare(bench.tracker, *found)
