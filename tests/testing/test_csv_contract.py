"""`CSVLogger` keeps the contracts, in a directory that the user chose and in the run's own."""

import csv
import json
from pathlib import Path
from unittest import mock

import yaml

from rankzero import CSVLogger
from rankzero.loggers.csv.file import CsvFile
from rankzero.testing import ALL, DeliveryContract, LoggerContract, Tracked


class CSV:
    capabilities = ALL - {"text", "tags", "define_metric", "status"}

    def make_logger(self, tmp_path):
        return CSVLogger(tmp_path / "logs")

    def read_back(self, logger):
        directory, tracked = Path(logger.log_dir), Tracked()
        for row in rows_of(directory / "metrics.csv"):
            step, time = int(row.pop("step")), float(row.pop("time"))
            for name, value in row.items():
                if value:
                    tracked.add_metric(name, step, number(value), time)
        for row in rows_of(directory / "files.csv"):
            step = int(row["step"]) if row["step"] else None
            details = {"caption": None, "aliases": (), "score": None, **json.loads(row["details"] or "{}")}
            known = {name: details[name] for name in ("caption", "aliases", "score")}
            tracked.add_item(row["kind"], row["key"], step, content_of(directory / row["path"]), **known)
        hparams = directory / "hparams.yaml"
        tracked.params = yaml.safe_load(hparams.read_text()) if hparams.exists() else {}
        return tracked


class TestLogger(CSV, LoggerContract):
    def break_tracker(self, logger):
        return mock.patch.object(CsvFile, "append", side_effect=OSError("the disk is full"))


class TestLoggerInTheRunsDirectory(TestLogger):
    def make_logger(self, tmp_path):
        return CSVLogger()


class TestDelivery(CSV, DeliveryContract):
    def make_logger(self, tmp_path):
        return CSVLogger()


def rows_of(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def number(text):
    try:
        return int(text)
    except ValueError:
        return float(text)


def content_of(path):
    if path.suffix != ".csv":
        return path.read_bytes()
    with path.open(newline="") as file:
        columns, *rows = csv.reader(file)
    return columns, rows
