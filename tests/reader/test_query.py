"""SQL queries of runs; a query reads nothing else on the machine."""

import json
import math
import signal
import subprocess
import sys

import psutil
import pytest
from recorded import write
from waiting import A_WHILE

import rankzero
import rankzero.reader.query
from rankzero.cli.app import main
from rankzero.errors import ConfigError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Console, Finish, Metrics, Params, Rewind, Start, Text
from rankzero.reader.query import query
from rankzero.waiting import wait_until


@pytest.fixture
def directory(tmp_path):
    for number, (id, lr) in enumerate([("a", 0.1), ("b", 0.01), ("c", None)]):
        run_dir = tmp_path / "runs" / "digits" / id
        write(
            run_dir,
            Start(1.0, RunInfo(id, f"run-{id}", "digits", str(run_dir), started=float(number))),
            Params(1.0, {"lr": lr, "opt": {"name": "sgd"}, "nan": math.nan}),
            *(Metrics(2.0 + step, step, {"loss": number + 1 / (step + 1)}, stage="train") for step in range(10)),
            Metrics(3.0, 2**70, {"odd": "NaN"}),
            b'{"type":"metr\n',
            Text(4.0, "note", ["text"], [["it's"]], 7),
            Console(5.0, "a line"),
            Finish(9.0, "success"),
        )
    return tmp_path / "runs"


@pytest.fixture
def ask(directory):
    return lambda sql, **options: query(sql, rankzero.read_runs(directory), **options)


def test_runs_have_the_columns_of_exports(ask):
    names, rows = ask("select name, status, points, params->>'$.opt.name' as optimizer from runs order by started")
    assert names == ["name", "status", "points", "optimizer"]
    assert rows == [(f"run-{id}", "success", 11, "sgd") for id in "abc"]


def test_params_and_summaries_are_rows(ask):
    sql = """
        select run, min, min_step, value from summaries join params using (project, run)
        where metric = 'loss' and param = 'lr' order by min
    """
    assert ask(sql)[1] == [("a", 0.1, 9, "0.1"), ("b", 1.1, 9, "0.01"), ("c", 2.1, 9, "null")]
    assert ask("select count(*) from params where param = 'opt/name' and value = 'sgd'")[1] == [(3,)]


def test_metrics_have_all_points(ask):
    names, rows = ask("select * from metrics where run = 'b' and (step = 9 or metric = 'odd')")
    assert names == ["project", "run", "metric", "step", "time", "epoch", "stage", "value"]
    assert rows[0] == ("digits", "b", "loss", 9, 11.0, None, "train", 1.1)
    assert rows[1][:4] == ("digits", "b", "odd", None)
    assert math.isnan(rows[1][-1])
    assert ask("select count(*) from metrics one join metrics other using (run, metric, time)")[1] == [(33,)]


def test_events_have_everything_else(ask):
    sql = "select type, step, event->>'$.data[0][0]' from events where run = 'a' and type in ('text', 'console')"
    assert ask(sql)[1] == [("text", 7, "it's"), ("console", None, None)]
    assert ask("select count(*) from events")[1] == [(15,)]


def test_events_that_a_rewind_superseded_are_left_out(ask, directory):
    write(
        directory / "digits" / "a",
        Text(9.5, "note", ["text"], [["kept"]], 3),
        Rewind(1.0, 5),  # the clock was set back: only places in the journal count
        Text(0.5, "note", ["text"], [["new"]], 6),
    )
    sql = "select event->>'$.data[0][0]' from events where run = 'a' and type = 'text'"
    assert ask(sql)[1] == [("kept",), ("new",)]


def test_times_can_be_converted(ask):
    ((_, started),) = ask("select run, to_timestamp(started) from runs where run = 'b'")[1]
    assert started.timestamp() == 1.0


def test_journals_are_read_only_if_the_query_needs_them(ask, directory, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a journal was read")

    rankzero.read_runs(directory)
    monkeypatch.setattr(rankzero.reader.query, "RunReader", refuse)
    monkeypatch.setattr(rankzero.reader.query, "index_run", refuse)
    assert ask("select count(*) from runs, params, summaries")[1] == [(3 * 9 * 6,)]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_text('{file}')",
        "select * from '{file}'",
        "copy runs to '{file}'",
        "attach '{file}' as other",
        "install httpfs",
        "load '{file}'",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "select * from directory",
    ],
)
def test_a_query_reads_and_writes_no_file(ask, tmp_path, sql):
    file = tmp_path / "secret.csv"
    file.write_text("the,password\n1,2\n")
    with pytest.raises(ConfigError, match="the query failed"):
        ask(sql.format(file=file))
    assert file.read_text() == "the,password\n1,2\n"


def test_files_are_read_if_the_user_allows_it(ask, tmp_path):
    (tmp_path / "more.csv").write_text("run,rating\na,5\n")
    sql = f"select name, rating from runs join '{tmp_path}/more.csv' using (run)"
    assert ask(sql, allow_files=True)[1] == [("run-a", 5)]


def test_no_runs_are_empty_tables(tmp_path):
    for table in ("runs", "params", "summaries", "metrics", "events"):
        assert query(f"select count(*) from {table}", rankzero.read_runs(tmp_path))[1] == [(0,)]


# The command


def test_a_table_is_printed(directory, capsys):
    columns = "name, max as 'largest [bold]', null as none"
    sql = f"select {columns} from summaries join runs using (run) where metric = 'loss' order by name"
    assert main(["query", sql, str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["name", "largest", "[bold]", "none"],
        ["run-a", "1", "–"],
        ["run-b", "2", "–"],
        ["run-c", "3", "–"],
    ]


def test_of_a_table_that_is_too_wide_all_columns_are_printed(directory, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["query", "select * from runs where run = 'b'", str(directory)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["column", "value"]
    assert ["name", "run-b"] in lines
    assert ["group", "–"] in lines
    assert ["directory", f"{directory}/digits/b"] in lines


def test_json_and_csv_are_printed(directory, capsys):
    sql = "select run, ['x'] as tags, last from runs join summaries using (run) where metric = 'odd' and run = 'a'"
    assert main(["query", sql, str(directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"run": "a", "tags": ["x"], "last": "NaN"}]
    assert main(["query", sql, str(directory), "--csv"]) == 0
    assert capsys.readouterr().out == 'run,tags,last\na,"[""x""]",nan\n'


def test_a_wrong_query_is_explained(directory, capsys):
    assert main(["query", "select nme from runs", str(directory)]) == 2
    line, place, caret = capsys.readouterr().err.splitlines()
    assert 'column "nme" not found' in line
    assert place[caret.index("^") :].startswith("nme")
    for sql, problem in (
        (" ; ", "the query is empty"),
        ("select 1; select 2", "the query has several results; ask one query at a time"),
    ):
        assert main(["query", sql, str(directory)]) == 2
        assert capsys.readouterr().err == f"rankzero: {problem}\n"
    assert main(["query", "create temp table t as select 7 as seven; from t;", str(directory)]) == 0
    assert capsys.readouterr().out == "seven\n7\n"


@pytest.mark.slow
def test_ctrl_c_ends_a_query(directory):
    sql = "select count(*) from range(100000000000) each where hash(range) % 7 = 3"
    command = [sys.executable, "-m", "rankzero.cli.app", "query", sql, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_until(lambda: sum(psutil.Process(process.pid).cpu_times()[:2]) > 2.5, A_WHILE)  # DuckDB computes
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=A_WHILE) == (b"", None)
    assert process.returncode == 130


def test_a_query_is_about_the_runs_that_are_named(directory, capsys, monkeypatch):
    monkeypatch.setenv("RANKZERO_DIR", str(directory))
    for name in ("run-b", str(directory / "digits" / "b")):
        assert main(["query", "select run from runs", name, "--csv"]) == 0
        assert capsys.readouterr().out == "run\nb\n"
