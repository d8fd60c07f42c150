"""``rankzero compare``: the differences of runs."""

import json
import re

import pytest
import recorded

from rankzero.capture.environment import Environment, Git, write_environment
from rankzero.cli.app import main
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import DefineMetric, Finish, Metrics, Params, Start, Tags


@pytest.fixture
def write(tmp_path):
    def write(id, params, losses, environment=None, packages="", diff="", name=None):
        run_dir = tmp_path / id
        start = Start(1.0, RunInfo(id, name or f"run-{id}", "digits", str(run_dir), started=1.0))
        rows = [Metrics(2.0, step, {"val/loss": loss, "acc": step}) for step, loss in enumerate(losses)]
        goal = DefineMetric(1.0, "val/*", goal="minimize")
        recorded.write(run_dir, start, Params(1.0, params), goal, *rows, Finish(9.0, "success"))
        for file, content in (("packages.txt", packages), ("diff.patch", diff)):
            (run_dir / file).write_text(content)
        if environment is not None:
            write_environment(run_dir, environment)
        return str(run_dir)

    return write


def git(commit, dirty=False):
    return Git("/repository", commit, "main", dirty=dirty, diff="diff.patch" if dirty else None)


@pytest.fixture
def two(write):
    one = Environment(host="alpha", python="3.11.1", git=git("aaa"), packages="packages.txt", argv=("t.py",))
    other = Environment(host="beta", python="3.11.1", git=git("aaa", True), packages="packages.txt", argv=("t.py",))
    return [
        write("a", {"lr": 0.1, "opt": {"name": "sgd"}, "seed": 1}, [3, 1, 2], one, "numpy==1\ntorch==2\n"),
        write("b", {"lr": 0.2, "opt": {"name": "sgd"}, "new": True}, [3, 2], other, "numpy==2\ntorch==2\n", "+a\n-b\n"),
    ]


def compared(runs, capsys):
    assert main(["compare", *runs, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_only_what_differs_is_named(two, capsys):
    found = compared(two, capsys)
    assert found["params"] == {"lr": [0.1, 0.2], "seed": [1, None], "new": [None, True]}
    assert found["packages"] == {"numpy": ["1", "2"]}
    changes = found["environment"].pop("uncommitted changes")
    assert (changes[0], changes[1][:7]) == (None, "2 lines")
    assert found["environment"] == {"host": ["alpha", "beta"]}


def test_metrics_are_side_by_side_with_the_best_by_their_goal(two, capsys):
    metrics = compared(two, capsys)["metrics"]
    assert (metrics["val/loss"]["goal"], metrics["val/loss"]["best"]) == ("minimize", [1, 2])
    assert [each["last"] for each in metrics["val/loss"]["runs"]] == [2, 2]
    assert (metrics["acc"]["goal"], metrics["acc"]["best"]) == (None, [None, None])


def test_a_table_is_printed_with_a_column_for_each_run(two, capsys):
    assert main(["compare", *two, "--plot", "val/loss"]) == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["parameter", "run-a", "run-b"] in lines
    assert ["1", "parameter", "the", "same"] in lines
    assert ["val/loss", "(best)", "1", "2"] in lines
    assert ["acc", "(max)", "2", "1"] in lines
    assert "1 run-a · 2 run-b" in out
    assert "┤" in out


def test_curves_are_drawn_in_colors_if_the_terminal_has_them(two, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["compare", *two, "--plot", "val/loss"]) == 0
    out = capsys.readouterr().out
    first, second = re.search("\x1b\\[(.*?)m━━\x1b\\[0m run-a · \x1b\\[(.*?)m━━\x1b\\[0m run-b", out).groups()
    assert first != second
    assert all(re.search(f"\x1b\\[{color}m[\u2801-\u28ff]", out) for color in (first, second))


def test_groups_and_tags_are_shown_and_system_metrics_are_counted(write, tmp_path, capsys):
    runs = [write("a", {}, [1]), write("b", {}, [2])]
    recorded.write(tmp_path / "b", Tags(10.0, ["wide", "old"]), Metrics(10.0, None, {"system/cpu": 3.0}))
    assert main(["compare", *runs]) == 0
    out = capsys.readouterr().out
    assert "tags wide, old" in " ".join(out.split())
    assert "group" not in out
    assert "1 system metric: --json" in out
    assert "system/cpu" not in out
    assert compared(runs, capsys)["runs"][1]["tags"] == ["wide", "old"]


def test_runs_without_metrics_and_environment_are_compared(write, capsys):
    assert compared([write("a", {}, []), write("b", {}, [1])], capsys)["metrics"]["acc"]["runs"][0] is None
    assert main(["compare", write("c", {}, [], name="[bold]same"), write("d", {}, [], name="[bold]same")]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["run", "c", "d"]


def test_names_and_values_of_others_are_escaped(write, capsys):
    hostile = "[red]\x1b[31m\u202e" + "x" * 100
    assert main(["compare", write("a", {hostile: hostile}, [], name=hostile), write("b", {}, [])]) == 0
    out = capsys.readouterr().out
    assert "[red]" in out
    assert not {"\x1b", "\u202e"} & {*out}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name two or more different runs"),
        (["--plot", "val/los"], "there is no metric 'val/los'. Did you mean 'val/loss'"),
    ],
)
def test_wrong_usage_is_said(two, capsys, arguments, says):
    runs = two if arguments else two[:1]
    assert main(["compare", *runs, *arguments]) == 2
    assert says in capsys.readouterr().err
