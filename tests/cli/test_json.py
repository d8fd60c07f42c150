"""What ``--json`` prints has the names of docs/reference/json.md, the same in all commands."""

import json
import re
from pathlib import Path

import pytest
from filelock import FileLock

import rankzero
from rankzero.cli.app import main
from rankzero.rundir.positions import Position, courier_lock, save_position

DOCUMENTED = Path(__file__).parents[2] / "docs" / "reference" / "json.md"
ROW = re.compile(r"\| ((?:`\w+`(?:, )?)+) \|.*\| ([\w, ]+) \|")
PROBLEM = "TrackerUnavailableError: HTTPConnectionPool(host='far', port=80): [Errno 111] Connection refused"


def names_of(command):
    """Return the names that are documented for a command."""
    rows = filter(None, map(ROW.fullmatch, DOCUMENTED.read_text().splitlines()))
    return {name for row in rows if command in row[2].split(", ") for name in re.findall(r"\w+", row[1])}


@pytest.fixture
def printed(capsys):
    """Return a function that runs a command and returns what it prints as JSON."""

    def printed(*arguments):
        main([*map(str, arguments), "--json"])
        return json.loads(capsys.readouterr().out)

    return printed


@pytest.fixture
def run_dirs(undelivered):
    """Two runs; one has a delivery that fails."""
    dirs = []
    for name in ("one", "other"):
        with rankzero.start(["csv"], project="p", name=name, run_id=name) as run:
            run.log_metrics({"loss": 1.0}, step=0)
        dirs.append(Path(run.dir))
    save_position(dirs[0], "csv", Position(problem=PROBLEM))
    return dirs


def test_all_names_are_documented(printed, run_dirs):
    Path("rows.csv").write_text("step,loss\n0,1.5\n")
    with FileLock(courier_lock(run_dirs[0], "csv")):
        (delivering,) = printed("ps", "rankzero-runs")
    shown, compared = printed("show", "one"), printed("compare", *run_dirs)
    results = {
        "ls": printed("ls", "rankzero-runs")[0],
        "show": shown,
        "deliveries": shown["deliveries"]["csv"],
        "metrics": shown["metrics"]["loss"],
        "compare": compared,
        "runs": compared["runs"][0],
        "ps": delivering,
        "sync": printed("sync", "other")[0],
        "import": printed("import", "csv", "rows.csv")[0],
        "check": printed("check", "csv", "--option", "save_dir=check"),
        "clean": printed("clean", "rankzero-runs")[0],
        "loggers": printed("loggers")[0],
    }
    assert all(Path(result["dir"]).is_absolute() for result in results.values() if "dir" in result)
    assert {command: set(result) for command, result in results.items()} == {each: names_of(each) for each in results}


def test_a_problem_is_in_the_words_of_the_text(printed, run_dirs):
    deliveries = [printed("show", "one")["deliveries"]["csv"]]
    with FileLock(courier_lock(run_dirs[0], "csv")):
        deliveries += printed("ps", "rankzero-runs") + printed("sync", "one", "--timeout", 0)
    words = "cannot reach far:80: connection refused"
    assert [each["problem"].rpartition("retry: ")[2] for each in deliveries] == [words] * 3
