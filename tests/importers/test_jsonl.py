"""``rankzero import jsonl``: a JSON object in each line."""

import json
import math
import os
from pathlib import Path

import pandas as pd
import pytest
from importers.reading import import_one, points, texts
from stable_baselines3.common.logger import configure

from rankzero.importers.base import SkipRun
from rankzero.importers.sources.jsonl import JsonLinesImporter
from rankzero.testing import ImporterContract

pytestmark = pytest.mark.usefixtures("undelivered")


class TestJsonLines(ImporterContract):
    def make_importer(self):
        return JsonLinesImporter()

    def make_source(self, directory):
        self.write(directory, 0)
        return "log.jsonl"

    def grow_source(self, directory):
        self.write(directory, 30)

    def write(self, directory, first):
        with open(directory / "log.jsonl", "a") as file:
            for step in range(first, first + 30):
                loss = math.nan if step % 10 == 9 else step / 7
                row = {"step": step, "time": 1.7e9 + step, "train": {"loss": loss, "lr": [0.1, 0.2]}, "split": "train"}
                file.write(json.dumps(row) + "\n")


def write(*lines, end="\n"):
    Path("log.jsonl").write_text("\n".join(lines) + end)
    return "log.jsonl"


def test_pandas():
    frame = pd.DataFrame({"iteration": [1, 2], "loss": [0.1, None], "at": [1.7e9, 1.7e9 + 1], "who": ["a", "b"]})
    frame.to_json("log.jsonl", orient="records", lines=True)
    run, left_out = import_one(JsonLinesImporter(time="at"), "log.jsonl")
    assert (points(run), texts(run), left_out) == ({"loss": [(1, 0.1)]}, {"who": [(1, "a"), (2, "b")]}, {})
    assert run.started == 1.7e9


def test_stable_baselines(tmp_path):
    logger = configure(str(tmp_path), ["json"])  # progress.json
    for step in (10, 20):
        logger.record("time/total_timesteps", step)
        logger.record("train/loss", 1 / step)
        logger.dump(step)
    logger.close()
    run, _ = import_one(JsonLinesImporter(), "progress.json")
    assert points(run) == {"train/loss": [(10, 0.1), (20, 0.05)]}


def test_values_of_each_type():
    line = (
        '{"_step": 3, "a": {"b": {"c": 1}, "d": true}, "e": null, "f": [1, "x"], "g": "NaN", "h": -Infinity, "i": 1e3}'
    )
    run, left_out = import_one(JsonLinesImporter(), write(line))
    assert points(run) == {
        "a/b/c": [(3, 1)], "a/d": [(3, 1)], "g": [(3, "nan")], "h": [(3, -math.inf)], "i": [(3, 1000.0)]
    }  # fmt: skip
    assert (texts(run), left_out) == ({"f": [(3, '[1,"x"]')]}, {})


def test_lines_without_a_step_have_the_step_of_the_previous_line():
    run, _ = import_one(
        JsonLinesImporter(), write('{"step": 7, "loss": 1}', '{"epoch": 1, "val": 2}', '{"step": 8, "loss": 3}')
    )
    assert points(run) == {"loss": [(7, 1), (8, 3)], "val": [(7, 2)]}


def test_a_line_for_each_value():
    run, _ = import_one(
        JsonLinesImporter(),
        write('{"name": "loss", "value": 1, "step": 4}', '{"name": "acc", "value": 0.5, "step": 4}'),
    )
    assert points(run) == {"loss": [(4, 1)], "acc": [(4, 0.5)]}


@pytest.mark.parametrize("line", ["starting …", "[1, 2]", '{"a": ', "[" * 20_000, '{"a": ' + "9" * 5000 + "}", "\0"])
def test_lines_that_are_not_objects_are_counted(line):
    run, left_out = import_one(JsonLinesImporter(), write(line, '{"loss": 1}', "", line, line))
    assert (points(run), left_out) == ({"loss": [(0, 1)]}, {("a line", "it is not a JSON object"): 3})


def test_other_files_are_skipped_with_a_reason():
    Path("main.csv").write_text("step,loss\n0,1\n")
    (found,) = JsonLinesImporter().find(["main.csv"])
    with pytest.raises(SkipRun, match="no line is a JSON object"):
        found.header()


def test_the_last_line_may_be_incomplete():
    for end, expected in (
        ('{"loss": 0.2', [0.5]),
        ('{"loss": 0.25}', [0.5, 0.25]),
        ('{"loss": 0.25}\n{"', [0.5, 0.25]),
    ):
        run, left_out = import_one(JsonLinesImporter(), write('{"loss": 0.5}', end, end=""))
        assert (run.metrics["loss"].value.tolist(), left_out) == (expected, {})
    os.utime("log.jsonl", (1.7e9, 1.7e9))
    _, left_out = import_one(JsonLinesImporter(), "log.jsonl")
    assert left_out == {("a line", "it is not a JSON object"): 1}  # no program writes to it any more
