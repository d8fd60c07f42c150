"""``rankzero import csv``: tables of other tools, also after people have edited them."""

import csv
import gzip
import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from importers.reading import import_all, import_one, points, texts
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from stable_baselines3.common.logger import configure

import rankzero
from rankzero.cli import app as cli
from rankzero.importers.base import Report, SkipRun
from rankzero.importers.sources.csv import CsvImporter
from rankzero.importers.writing import Outcome
from rankzero.testing import ImporterContract

pytestmark = pytest.mark.usefixtures("undelivered")


def lightning(directory, steps, version=0):
    """Log with Lightning's logger, which writes the file again when a metric is new; it has no times."""
    logger = LightningCSVLogger(directory, "digits", version, flush_logs_every_n_steps=2)
    logger.log_hyperparams({"lr": 0.1, "optim": {"name": "adam"}, "kind": complex})
    for step in steps:
        logger.log_metrics({"loss": 1 / (step + 3), "epoch": step // 4}, step)
        if step % 4 == 3:
            logger.log_metrics({"val_acc": math.nan if step == 7 else step * 0.1, "epoch": step // 4}, step)
    logger.save()
    return Path(directory, "digits", f"version_{version}", "metrics.csv")


class TestLightning(ImporterContract):
    def make_importer(self):
        return CsvImporter()

    def make_source(self, directory):
        lightning(directory, range(3), 0)
        lightning(directory, range(8), 1)
        return "digits"

    def grow_source(self, directory):
        path = Path(directory, "digits", "version_0", "metrics.csv")
        changed = path.stat().st_mtime  # the time of rows without one, when the file is first imported
        path.unlink()
        (path.parent / "hparams.yaml").unlink()
        lightning(directory, range(12), 0)  # now with another column
        os.utime(path, (changed, changed))


class TestAppended(ImporterContract):
    def make_importer(self):
        return CsvImporter()

    def make_source(self, directory):
        self.write(directory, 0)
        return "progress.csv"

    def grow_source(self, directory):
        self.write(directory, 30)

    def write(self, directory, first):
        with open(directory / "progress.csv", "a", newline="") as file:
            writer = csv.writer(file)
            if not first:
                writer.writerow(["time", "note", "loss"])
            writer.writerows([1.7e9 + row, 'says "hi",\nbye', row / 7] for row in range(first, first + 30))


def test_lightning(tmp_path):
    path = lightning(tmp_path, range(8))
    run, left_out = import_one(CsvImporter(), "digits")
    table = pd.read_csv(path)
    assert points(run)["loss"] == [(row.step, row.loss) for row in table.itertuples() if not math.isnan(row.loss)]
    assert points(run)["val_acc"] == [(3, 0.3 + 5e-17), (7, "nan")]
    assert run.params == {"lr": 0.1, "optim": {"name": "adam"}}
    assert left_out == {("hparams.yaml.kind", "it is an object, python/name:builtins.complex"): 1}
    assert run.info.name == "digits/version_0"


def test_keras(tmp_path):
    import keras  # takes two seconds

    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(
        np.ones((4, 2)), np.ones(4), epochs=3, verbose=0, callbacks=[keras.callbacks.CSVLogger("log.csv")]
    )
    run, left_out = import_one(CsvImporter(), "log.csv")
    assert points(run) == {"loss": list(enumerate(history.history["loss"]))}
    assert left_out == {}


def test_pandas(tmp_path):
    frame = pd.DataFrame({"loss": [0.1, math.inf, None], "good": [True, False, True], "n": [1, 2, 2**60]})
    frame["at"] = pd.to_datetime(
        ["2024-05-01T10:00:00.5Z", "2024-05-01 10:00:01Z", "2024-05-01 10:00:02Z"], format="ISO8601"
    )
    frame.to_csv("frame.csv")
    run, _ = import_one(CsvImporter(time="at"), "frame.csv")
    assert points(run) == {
        "loss": [(0, 0.1), (1, math.inf)],
        "good": [(0, 1), (1, 0), (2, 1)],
        "n": [(0, 1), (1, 2), (2, 2**60)],
    }
    assert list(run.metrics["n"].time) == [1714557600.5, 1714557601.0, 1714557602.0]
    assert run.started == 1714557600.5


def test_stable_baselines(tmp_path):
    logger = configure(str(tmp_path), ["csv"])
    for step in (10, 20):
        logger.record("time/total_timesteps", step)
        logger.record("train/loss", 1 / step)
        if step == 20:
            logger.record("late", 1)
        logger.dump(step)
    logger.close()
    run, _ = import_one(CsvImporter(), tmp_path)
    assert points(run) == {"train/loss": [(10, 0.1), (20, 0.05)], "late": [(20, 1)]}


def test_dvclive_has_a_table_for_each_metric():
    for name, header in (("train/loss", "step\tloss"), ("acc", "timestamp\tstep\tacc")):
        path = Path("dvclive/plots/metrics", f"{name}.tsv")
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = "1700000000500\t" if "timestamp" in header else ""
        path.write_text(f"{header}\n{cells}0\t0.5\n")
    Path("dvclive/params.yaml").write_text("lr: 0.1\n")
    run, _ = import_one(CsvImporter(), "dvclive")
    assert points(run) == {"train/loss": [(0, 0.5)], "acc": [(0, 0.5)]}
    assert run.metrics["acc"].time[0] == 1700000000.5
    assert (run.params, run.info.name) == ({"lr": 0.1}, "dvclive")


def test_tables_of_rankzero(tmp_path):
    with rankzero.start("csv", save_dir=tmp_path / "logs", dir=tmp_path / "own") as run:
        for step in range(3):
            run.log_metrics({"loss": math.nan if step else 0.1, "acc": step}, step)
        run.log_metrics({"loss": math.inf})
    original = rankzero.read_run(run.dir)
    assert cli.main(["sync", str(run.dir), "--to", "csv"]) == 0
    assert cli.main(["export", str(run.dir), "--output", "exported.csv"]) == 0
    exported, _ = import_one(CsvImporter(), "exported.csv")
    for name, series in original.metrics.items():
        for column in ("step", "time", "value"):
            assert np.array_equal(getattr(exported.metrics[name], column), getattr(series, column), equal_nan=True)


def test_the_media_of_rankzeros_logger_are_not_runs():
    with rankzero.start("csv", save_dir="logs", dir="own") as run:
        run.log_metrics({"loss": 0.5}, 1)
        run.log_table("samples", ["step", "loss"], [[1, 0.5]], step=1)
    assert cli.main(["sync", str(run.dir), "--to", "csv", "-o", "save_dir=logs"]) == 0
    assert list(Path("logs").rglob("tables/*.csv"))
    imported, _ = import_one(CsvImporter(), "logs")
    assert points(imported) == {"loss": [(1, 0.5)]}


def write(text, name="log.csv", encoding="utf-8"):
    Path(name).write_bytes(text.encode(encoding))
    return name


ODD_TABLES = {
    "byte order mark, CRLF": ("\ufeffstep,loss\r\n1,0.5\r\n2,0.25\r\n", "utf-8"),
    "UTF-16": ("step,loss\n1,0.5\n2,0.25\n", "utf-16"),
    "semicolons, decimal commas": ("step;loss\n1;0,5\n2;0,25\n", "utf-8"),
    "tabs and spaces": (" Step \tloss \n 1\t0.5\n2 \t 0.25\n", "utf-8"),
    "quotes": ('"step","loss"\n"1","0.5"\n"2","0.25"\n', "utf-8"),
    "a comment": ("# step,loss\n1,0.5\n2,0.25\n", "utf-8"),
    "a comment with JSON": ('#{"env_id": "x"}\nstep,loss\n1,0.5\n2,0.25\n', "utf-8"),
    "empty lines": ("\n\nstep,loss\n\n1,0.5\n,\n2,0.25\n\n", "utf-8"),
    "a repeated header": ("step,loss\n1,0.5\nstep,loss\n2,0.25\n", "utf-8"),
    "another header": ("step,loss\n1,0.5\nloss,step\n0.25,2\n", "utf-8"),
    "floats as steps": ("step,loss\n1.0,0.5\n2.0,0.25\n", "utf-8"),
    "tensors": ('step,loss\n1,tensor(0.5)\n2,"tensor(0.25, grad_fn=<MeanBackward0>)"\n', "utf-8"),
    "missing values": ("step,loss,x\n1,0.5,N/A\n2,0.25,null\n", "utf-8"),
    "short rows": ("step,loss,x\n1,0.5\n2,0.25\n", "utf-8"),
    "no line end, long ago": ("step,loss\n1,0.5\n2,0.25", "utf-8"),
    "long form": ("metric,step,value\nloss,1,0.5\nloss,2,0.25\n", "utf-8"),
}


@pytest.mark.parametrize("kind", ODD_TABLES)
def test_odd_tables(kind):
    os.utime(write(ODD_TABLES[kind][0], encoding=ODD_TABLES[kind][1]), (1.7e9, 1.7e9))
    run, left_out = import_one(CsvImporter(), "log.csv")
    assert (points(run), left_out) == ({"loss": [(1, 0.5), (2, 0.25)]}, {})
    assert run.metrics["loss"].time[0] == 1.7e9


def test_bytes_that_are_not_utf8_are_read_as_windows_1252():
    run, _ = import_one(CsvImporter(), write("step,größe,note\n1,0.5,5 €\n", encoding="cp1252"))
    assert (points(run), texts(run)) == ({"größe": [(1, 0.5)]}, {"note": [(1, "5 €")]})


def test_a_compressed_table():
    with gzip.open("log.csv.gz", "wt") as file:
        file.write("step,loss\n1,0.5\n")
    run, left_out = import_one(CsvImporter(), ".")
    assert (points(run), left_out) == ({"loss": [(1, 0.5)]}, {})


def test_numbers_keep_their_values():
    cells = ["nan", "NaN", "-inf", "Infinity", "1e400", "0.1", "1e-320", str(2**62 + 1), "-0.0", "1.#QNAN", "True"]
    run, _ = import_one(CsvImporter(), write("x\n" + "\n".join(cells) + "\n"))
    expected = ["nan", "nan", -math.inf, math.inf, math.inf, 0.1, 1e-320, float(2**62 + 1), -0.0, "nan", 1]
    assert points(run) == {"x": list(enumerate(expected))}


def test_a_table_without_a_header():
    run, _ = import_one(CsvImporter(), write("1.5,2\n1.25,3\n"))
    assert points(run) == {"column 0": [(0, 1.5), (1, 1.25)], "column 1": [(0, 2), (1, 3)]}


def test_columns_with_the_same_name():
    run, _ = import_one(CsvImporter(), write("step,loss,loss,loss.1\n1,2,3,4\n"))
    assert points(run) == {"loss": [(1, 2)], "loss.1": [(1, 3)], "loss.1.1": [(1, 4)]}


def test_epoch_and_stage():
    run, _ = import_one(CsvImporter(), write("epoch,stage,loss\n1,train,2\n1,val,3\n"))
    lines = Path(run.dir, "journal.jsonl").read_text().splitlines()
    assert lines[1].endswith('"step":1,"values":{"loss":2},"epoch":1,"stage":"train"}')


def test_a_quote_that_is_never_closed_damages_one_row():
    rows = "".join(f"{step},{step / 8},x\n" for step in range(20_000))
    run, _ = import_one(CsvImporter(), write('step,loss,note\n7,1,"y\n' + rows))
    assert len(run.metrics["loss"]) == 20_001


def test_a_quote_that_is_missing_in_the_last_column_damages_one_row():
    run, _ = import_one(CsvImporter(), write('step,loss,note\n0,1,"y\n1,2,x\n2,3,"z\n3,4,x\n'))
    assert points(run) == {"loss": [(0, 1), (1, 2), (2, 3), (3, 4)]}


@pytest.mark.parametrize("end", ["", ",", ",,", ",x"])
def test_a_cell_with_line_ends_in_rows_of_another_length(end):
    run, _ = import_one(
        CsvImporter(),
        write(f'step,loss,note,acc\n0,0.1,a,1{end}\n1,0.2,"line1\nline2",2{end}\n2,0.3,"x\ny"\n'),
    )
    assert points(run) == {"loss": [(0, 0.1), (1, 0.2), (2, 0.3)], "acc": [(0, 1), (1, 2)]}
    assert texts(run) == {"note": [(0, "a"), (1, "line1\nline2"), (2, "x\ny")]}


def test_cells_beyond_the_header_are_counted():
    _, left_out = import_one(CsvImporter(), write("step,loss\n1,2,3\n2,3,\n3,4,5,6\n"))
    assert left_out == {("the last cells of a row", "the row has more cells than the header"): 2}


def test_the_columns_of_step_and_time_can_be_named():
    write("n,at,loss\n5,1700000000000,0.5\n6.5,soon,0.25\n")
    run, left_out = import_one(CsvImporter(step="n", time="at"), "log.csv")
    assert points(run) == {"loss": [(5, 0.5), (5, 0.25)]}
    assert list(run.metrics["loss"].time) == [1.7e9, 1.7e9]
    assert [what for what, _ in left_out] == ["n", "at"]


def test_a_named_column_that_does_not_exist(capsys):
    write("n,loss\n1,2\n")
    assert cli.main(["import", "csv", "log.csv", "-o", "step=N"]) == 1
    assert "not imported: there is no column 'N'; the columns are 'n', 'loss'" in capsys.readouterr().err


def test_durations_are_not_times():
    run, _ = import_one(CsvImporter(), write("epoch,time,loss\n1,12.5,0.5\n"))
    assert points(run)["time"] == [(1, 12.5)]


def test_a_row_that_is_being_written_is_imported_later():
    write("step,loss\n1,0.5\n2,0.2")
    run, left_out = import_one(CsvImporter(), "log.csv")
    assert (points(run), left_out) == ({"loss": [(1, 0.5)]}, {})
    write("step,loss\n1,0.5\n2,0.25\n")
    run, _ = import_one(CsvImporter(), "log.csv")
    assert points(run) == {"loss": [(1, 0.5), (2, 0.25)]}


def test_only_new_rows_are_read():
    write("step,loss\n" + "1,2\n" * 10_000)
    import_one(CsvImporter(), "log.csv")
    with open("log.csv", "a") as file:
        file.write("2,3\n")
    (found,) = CsvImporter().find(["log.csv"])
    (bookmark,) = Path("runs").rglob("import.json")
    assert found.resume(json.loads(bookmark.read_text())["position"])
    assert len(list(found.events(None, Report()))) == 1


def test_a_directory_of_runs_can_be_moved(tmp_path):
    lightning(tmp_path / "a" / "logs", range(3))
    (first,) = import_all(CsvImporter(), "a")
    os.rename("a", "b")
    (second,) = import_all(CsvImporter(), "b/logs/digits/version_0/metrics.csv")
    assert (second.info.id, second.outcome) == (first.info.id, Outcome.UNCHANGED)


def test_tables_that_are_not_logs_are_skipped_in_a_directory():
    write("age,height\n1,2\n", "people.csv")
    write("", "empty.csv")
    reasons = ("it has no rows", "no column has a known name of a step or time")
    for found, reason in zip(CsvImporter().find(["."]), reasons, strict=True):
        with pytest.raises(SkipRun, match=reason):
            found.header()
    run, _ = import_one(CsvImporter(), "people.csv")
    assert points(run) == {"age": [(0, 1)], "height": [(0, 2)]}


NESTED = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 9)
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("- 1\n", "it is not a mapping"),
        ("a: {b: [\n", "expected"),
        (NESTED, "more than 100,000 values"),
        ("a: &a [*a]\n", "more than 100,000 values"),
        ("a: " + "[" * 5000, ""),
        ("a: 2020-99-99\n", "month must be"),
    ],
    ids=["a list", "torn", "aliases of aliases", "an alias in itself", "deep", "an impossible date"],
)
def test_parameters_that_cannot_be_read_are_left_out(content, reason):
    Path("hparams.yaml").write_text(content)
    run, left_out = import_one(CsvImporter(), write("step,loss\n1,0.5\n"))
    assert (points(run), run.params) == ({"loss": [(1, 0.5)]}, {})
    ((what, why),) = left_out
    assert what == "hparams.yaml"
    assert reason in why
