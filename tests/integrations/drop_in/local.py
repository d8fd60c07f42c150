"""The loggers that write into a directory."""

import csv
from pathlib import Path

import yaml
from integrations.drop_in.bench import Bench
from lightning.pytorch import loggers
from servers.event_files import accumulated, hparams, scalars

import rankzero
from rankzero_tensorboard import TensorBoardLogger


def params_in(logger):
    """Return what ``hparams.yaml`` holds; in Lightning's that may be any object."""
    path = Path(logger.log_dir, "hparams.yaml")
    return yaml.unsafe_load(path.read_text()) if path.exists() else None


class CsvBench(Bench):
    tracker = "csv"
    theirs, ours = loggers.CSVLogger, rankzero.CSVLogger

    def place(self, name):
        return {"save_dir": self.directory / name}

    def arrived(self, logger):
        with open(f"{logger.log_dir}/metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        metrics = {}
        for row in rows:
            for name, value in row.items():
                if value != "":
                    metrics.setdefault(name, []).append((row["step"], value))
        return {
            "metrics": metrics,
            "params": params_in(logger),
            "order of columns": list(rows[0]) if rows else [],
        }


class TensorBoardBench(Bench):
    tracker = "tensorboard"
    theirs, ours = loggers.TensorBoardLogger, TensorBoardLogger

    def place(self, name):
        return {"save_dir": self.directory / name}

    def arrived(self, logger):
        self.end(logger)
        read = accumulated(logger.log_dir)
        metrics = scalars(logger.log_dir)
        return {
            "hp_metric": metrics.pop("hp_metric", None),
            "metrics": metrics,
            "params": hparams(logger.log_dir),
            "hparams.yaml": params_in(logger),
            "graph": bool(read.Tags()["graph"]),
        }

    def end(self, logger):
        logger.finalize("success")
