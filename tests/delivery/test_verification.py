"""``rankzero sync --verify``: metrics are read back from a tracker, and compared with the journal."""

import json
import math
from pathlib import Path

import pytest

import rankzero
from rankzero.cli.app import main
from rankzero.delivery.verification import Changed, compare

THIRD = 1 / 3
THIRD_AS_FLOAT32 = 0.3333333432674408


@pytest.mark.parametrize(
    ("logged", "found"),
    [
        ([(0, 1.0), (1, 2)], [(1, 2.0), (0, 1)]),
        ([(0, math.nan), (1, math.inf), (2, -math.inf)], [(2, -math.inf), (1, math.inf), (0, math.nan)]),
        ([(0, THIRD), (1, 1e300)], [(0, THIRD_AS_FLOAT32), (1, math.inf)]),
        ([(0, 0.5), (0, 0.5)], [(0, 0.5), (0, 0.5)]),
        ([(None, 0.5), (None, 0.25), (0, 0.5)], [(0, 0.5), (1, 0.5), (2, 0.25)]),
        ([(0, 2**53 + 1)], [(0, 2**53 + 1)]),
        ([(0, 2**53 + 1)], [(0, float(2**53))]),
        ([], []),
    ],
    ids=[
        "order",
        "non-finite",
        "float32",
        "repeated",
        "without steps",
        "large ints",
        "large ints as floats",
        "nothing",
    ],
)
def test_the_same_values_are_equal(logged, found):
    assert compare("loss", logged, found).is_equal


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(0, 0.1), (0, 0.5)], {"missing": [(1, THIRD)], "unknown": [(0, 0.1)]}),
        ([(0, 0.5), (1, THIRD), (1, THIRD)], {"doubled": [(1, THIRD)]}),
        ([(0, 0.5), (1, THIRD_AS_FLOAT32 + 1e-12)], {"changed": [Changed(1, THIRD, THIRD_AS_FLOAT32 + 1e-12)]}),
        ([(0, 0.5), (1, THIRD), (2, 9.0)], {"unknown": [(2, 9.0)]}),
        ([(0, 0.5), (2, THIRD)], {"missing": [(1, THIRD)], "unknown": [(2, THIRD)]}),
        ([], {"missing": [(0, 0.5), (1, THIRD)]}),
        ([(0, "NaN"), (1, THIRD)], {"changed": [Changed(0, 0.5, "NaN")]}),
    ],
)
def test_differences_are_found(found, expected):
    result = compare("loss", [(0, 0.5), (1, THIRD)], found)
    assert not result.is_equal
    assert {name: getattr(result, name) for name in ("missing", "doubled", "changed", "unknown")} == {
        "missing": [], "doubled": [], "changed": [], "unknown": [], **expected
    }  # fmt: skip


@pytest.fixture
def metrics_file(undelivered):
    """The metrics.csv of a run that is delivered to CSV."""
    with rankzero.start(dir="runs", run_id="a1", capture_environment=False) as run:
        for step in range(10):
            run.log_metrics({"loss": 1 / (step + 3), "steps": step * 2, "nan": math.nan}, step=step)
        run.log_metrics({"late": 1})
    assert main(["sync", str(run.dir), "--to", "csv", "--verify"]) == 0
    return Path(run.dir, "metrics.csv")


def verify(capsys, *more):
    capsys.readouterr()
    status = main(["sync", str(Path("runs").resolve().glob("*/a1").__next__()), "--to", "csv", "--verify", *more])
    return status, *capsys.readouterr()


def test_a_delivery_is_verified(metrics_file, capsys):
    status, out, err = verify(capsys)
    assert (status, err) == (0, "")
    assert "csv: verified 31 values of 4 metrics: no difference\n" in out


def test_the_address_of_the_tracker_is_printed_without_a_password(metrics_file, capsys, monkeypatch):
    monkeypatch.setattr("rankzero.CSVLogger.address", "https://me:s3cret@tables.example")
    out = verify(capsys)[1]
    assert "csv: verified 31 values of 4 metrics at https://" in out
    assert "tables.example: no difference\n" in out
    assert "s3cret" not in out


def test_differences_are_described(metrics_file, capsys):
    header, *rows = metrics_file.read_text().splitlines(keepends=True)
    rows[3] = rows[3].replace(str(1 / 6), "0.25")
    metrics_file.write_text(header + "".join(rows[:7] + rows[8:] + rows[:1]))
    status, out, err = verify(capsys)
    assert (status, "no difference" in out) == (1, False)
    assert "csv: verified 31 values of 4 metrics: differences in 3:\n" in err
    assert (
        "  loss: 1 of 10 missing (step 7), 1 more often than logged (step 0), "
        f"1 different (at step 3 {1 / 6} was logged, and 0.25 is there)\n" in err
    )


def test_results_are_printed_as_json(metrics_file, capsys):
    status, out, _ = verify(capsys, "--json")
    (found,) = json.loads(out)
    assert (status, found["logger"], found["behind"], found["problem"]) == (0, "csv", 0, None)
    assert found["verified"] == {
        "problem": None, "address": None, "metrics": 4, "values": 31, "not_comparable": [], "differences": {},
    }  # fmt: skip
    metrics_file.write_text(metrics_file.read_text().replace(str(1 / 6), "0.25"))
    status, out, _ = verify(capsys, "--json")
    assert status == 1
    assert list(json.loads(out)[0]["verified"]["differences"]) == ["loss"]


def test_a_prefix_belongs_to_the_tracker(undelivered, capsys):
    with rankzero.start(dir="runs", run_id="a1", capture_environment=False) as run:
        run.log_metrics({"loss": 0.5}, step=3)
    assert verify(capsys, "-o", "prefix=try")[0] == 0


def test_initial_values_beside_hyperparameters_are_compared(undelivered, capsys):
    with rankzero.start(dir="runs", run_id="a1", capture_environment=False) as run:
        run.log_hyperparams({"lr": 0.1}, {"loss": 9.0, "hp": math.inf})
        run.log_metrics({"loss": 0.5}, step=3)
    status, out, _ = verify(capsys)
    assert status == 0
    assert "csv: verified 3 values of 2 metrics: no difference\n" in out


def test_a_logger_that_cannot_be_read_is_named(undelivered, capsys, monkeypatch):
    monkeypatch.delattr("rankzero.CSVLogger.read_metrics")
    with rankzero.start(dir="runs", run_id="a1", capture_environment=False) as run:
        run.log_metrics({"loss": 0.5}, step=3)
    status, _, err = verify(capsys)
    assert status == 1
    assert "csv: cannot be verified: this logger cannot read metrics back\n" in err
