"""Import the data of killed clients that no server has."""

import json
from pathlib import Path

import pytest
from plugins.neptune import rescue_samples as samples
from servers.neptune_server import NeptuneServer
from waiting import A_WHILE

from rankzero.cli import app as cli
from rankzero.reader.run_data import read_run


@pytest.fixture
def left(tmp_path):
    """A project in which two processes logged to one run, and died while the server was gone."""
    project = tmp_path / "project"
    project.mkdir()
    with NeptuneServer() as server:
        environment = server.environment()
        for each in ({}, {"WITH_ID": "first", "METRIC": "acc"}):
            if each:
                each["WITH_ID"] = next(iter(server.store.runs.values())).sys_id
            process = samples.leave(project, "unsynced", **environment, **each)
            for line in process.stdout:
                if line == "synced\n":
                    break
            server.stop()
            process.communicate("\n", timeout=A_WHILE)
            assert process.returncode == -9
            server.start()
    return project / "unsynced"


def take(project, runs, *options):
    status = cli.main(["import", "neptune", str(project), "--dir", str(runs), *options])
    (run_dir,) = (runs / "neptune").iterdir()
    return status, read_run(run_dir)


def on_disk(project, metric):
    """Return the steps whose lines in the logs are complete."""
    steps = []
    for log in project.rglob("data-*.log"):
        for line in log.read_text().splitlines():
            try:
                operation = json.loads(line)["obj"]
            except ValueError:
                continue
            if operation["path"] == [metric]:
                steps += [value["step"] for value in operation["values"]]
    return steps


def test_operations_on_disk_are_imported_by_time_and_the_others_counted(left, tmp_path, capsys):
    status, run = take(left, tmp_path / "runs")
    err = capsys.readouterr().err
    assert status == 1
    for metric in ("loss", "acc"):
        series = run.metrics[metric]
        steps = on_disk(left, metric)
        assert len(steps) > 200
        assert series.step.tolist() == steps == list(range(len(steps)))
        assert series.value.tolist() == [step / 3 for step in steps]
        assert series.time.tolist() == [1_700_000_000.0 + step for step in steps]
    assert err.count("they had not reached the disk when the process died") == 2
    logs = sorted(left.glob(".neptune/async/*"))
    for log in logs:
        last = (log / "last_put_version").read_text()
        assert f"{log.name}: the operations " in err
        assert f" to {last}: they had not reached the disk" in err
    names = [
        next(iter(json.loads(line)["values"]))
        for line in Path(run.dir, "journal.jsonl").read_bytes().splitlines()
        if line.startswith(b'{"type":"metrics"')
    ]
    assert names == sorted(names, reverse=True)  # the first process, "loss", ended before the second began
    _, run = take(left, tmp_path / "unsynced", "-o", "unsynced_only=true")
    for metric in ("loss", "acc"):
        assert run.metrics[metric].step.tolist() == on_disk(left, metric)[len(samples.SYNCED) :]
