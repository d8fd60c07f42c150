"""The command line: output, exit status, and effects on a run."""

import csv
import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest
from filelock import FileLock
from installed import write_plugin
from waiting import A_WHILE, SOON, until

import rankzero
from rankzero.capture.environment import Environment, Git
from rankzero.cli import app as cli
from rankzero.cli import terminal
from rankzero.delivery import active_couriers
from rankzero.delivery.active_couriers import at_work
from rankzero.delivery.courier import Courier
from rankzero.delivery.sync_job import SyncJob
from rankzero.errors import TrackerUnavailableError
from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Checkpoint, Finish, Metrics, Params, Rewind, Start, Text, encode
from rankzero.journal.append import Journal
from rankzero.plugins.registry import get_plugins
from rankzero.rundir import finding
from rankzero.rundir.finding import find_runs
from rankzero.rundir.positions import Position, load_position, save_position, wake_time
from rankzero.rundir.writer_lock import WriterLock

COMMANDS = [
    "demo", "ls", "top", "show", "compare", "query", "export", "sync", "deliver", "ps", "stop", "clean", "import",
    "loggers", "check", "page", "view",
]  # fmt: skip

# A tracker that is a file: what arrived stands in it, line by line. It is down while `path`.down exists.
BOX = """
import json, os, threading, time
from rankzero.errors import RejectedError, TrackerUnavailableError
from rankzero.loggers.base import Logger

class Box(Logger):
    secret_options = frozenset({"pin"})

    def __init__(self, path, pin=None, greeting="hello"):
        self.path, self.greeting = path, greeting
        if pin == "wrong-pin":
            raise PermissionError(f"the pin {pin} is wrong,\\nsays the box")

    name = property(lambda self: "box")
    version = property(lambda self: self.run_info.id)

    def how_to_view(self):
        return os.environ.get("BOX_VIEW")

    def _put(self, *what):
        if os.path.exists(self.path + ".down"):
            raise TrackerUnavailableError("the box is locked")
        if os.path.exists(self.path + ".hangs"):
            open(self.path + ".hanging", "w").close()
            if os.environ.get("STUBBORN"):  # as the threads of some SDKs
                threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
            time.sleep(60)
        with open(self.path, "a") as file:
            file.write(json.dumps([self.run_info.id, *what]) + "\\n")

    def log_hyperparams(self, params, *args, **kwargs):
        self._put("params", params, self.greeting)

    def log_metrics(self, metrics, step=None):
        if "bad" in metrics:
            raise RejectedError("it does not fit")
        self._put("metrics", metrics, step, self.context.time)

    def finalize(self, status):
        self._put("end", status)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Run every test in an empty directory, with a plugin called box."""
    entry_points = {"box": "box_for_tests:Box"}
    write_plugin(tmp_path / "plugins", "rankzero-box", entry_points, "1.5", ["numpy"], box_for_tests=BOX)
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "plugins"))
    for name in [name for name in os.environ if name.startswith("RANKZERO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RANKZERO_CAPTURE_ENVIRONMENT", "0")
    monkeypatch.setenv("RANKZERO_SYSTEM_METRICS", "0")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    get_plugins.cache_clear()
    yield tmp_path / "work"
    get_plugins.cache_clear()
    sys.modules.pop("box_for_tests", None)


@pytest.fixture
def command(capsys):
    """Run a command; return (exit status, standard output, standard error)."""

    def command(*arguments):
        status = cli.main([str(each) for each in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def make_run(run_id="a1", *events, name="amber-otter-12", loggers=None, finished=True, directory="rankzero-runs"):
    """Write a run that nobody has delivered."""
    run_dir = Path(directory, "digits", run_id)
    run_dir.mkdir(parents=True)
    if loggers is None:
        loggers = {"box": {"plugin": "box", "options": {"path": os.path.abspath("box.jsonl")}}}
    info = RunInfo(run_id, name, "digits", os.path.abspath(run_dir), started=100.0)
    metrics = [Metrics(101.0 + step, step, {"loss": 1 / (step + 1)}) for step in range(3)]
    end = [Finish(110.0, "success")] if finished else []
    add(run_dir, Start(100.0, info, loggers), Params(100.5, {"lr": 0.1}), *metrics, *events, *end)
    return run_dir


def add(run_dir, *events):
    journal = Journal(run_dir / "journal.jsonl")
    for event in events:
        journal.append(encode(event.sealed() if isinstance(event, Start) else event))


def in_box(path="box.jsonl"):
    return [json.loads(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []


# The command as a whole


def test_version(command):
    before = logging.getLogger("rankzero").handlers[:]
    assert command("--version") == (0, f"rankzero {rankzero.__version__}\n", "")
    assert logging.getLogger("rankzero").handlers == before  # a later start() decides whether to show messages


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(command, name):
    status, out, _ = command(name, "--help")
    assert status == 0
    assert f"Example: rankzero {name}" in out


def test_help_lists_every_command(command):
    _, out, _ = command("--help")
    assert [name for name in COMMANDS if name not in out] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lss"], "No such command 'lss'"),
        (["ls", "--jsn"], "--jsn"),
        (["show"], "there are no runs in"),
        (["export"], "there are no runs in"),
        (["export", "--format", "xlsx"], "There is no format 'xlsx'. Formats: csv, jsonl, parquet, duckdb, "),
        (["export", "-o", "x.xlsx"], "or set --format. See: "),
        (["show", "nothing"], "there is no run 'nothing'"),
        (["show", "."], "there is no run in ."),
        *(([each, "nowhere"], "there is no directory nowhere; name") for each in ("ls", "ps", "clean")),
        (["deliver", "nowhere"], "there is no directory nowhere"),
        (["sync", "nothing"], "there is no run 'nothing'"),
        (["export", "x", "--format", "parquet"], "needs --output"),
        (["export", "x", "-o", "nowhere/x.csv"], "there is no directory nowhere: make it"),
        (["check", "bxo"], "Did you mean 'box'?"),
        (["check", "box", "--option", "path"], "KEY=VALUE"),
    ],
)
def test_wrong_usage_is_one_line_and_exits_with_2(command, arguments, says):
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert err.startswith("rankzero: ")
    assert err.count("\n") == 1


def test_no_arguments_show_the_help(command):
    status, out, err = command()
    assert status == 2
    assert "Commands" in out
    assert err == ""


def test_an_internal_error_is_one_line(command, monkeypatch):
    monkeypatch.setattr("rankzero.reader.index.run_index.index_run", lambda path: 1 / 0)
    run_dir = make_run()
    status, _, err = command("show", run_dir)
    assert status == 1
    assert "internal error" in err
    assert "ZeroDivisionError" in err
    assert "Traceback" not in err


def test_the_command_is_installed_and_light():
    heavy = {"torch", "numpy", "pandas", "rich", "matplotlib"}
    code = f"import sys, rankzero.cli.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    done = subprocess.run(
        [shutil.which("rankzero", path=Path(sys.executable).parent), "--version"], capture_output=True
    )
    assert done.stdout.startswith(b"rankzero ")


def test_a_closed_pipe_is_not_an_error():
    make_run("a1", *(Metrics(1.0, step, {"loss": step}) for step in range(20_000)))
    code = "import sys; from rankzero.cli.app import main; sys.exit(main(['export', 'a1']))"
    done = subprocess.run(f'"{sys.executable}" -c "{code}" | head -1', shell=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("metric,step,time,epoch,stage,value\n", "")


# ls


def test_ls(command):
    run_dir = make_run()
    make_run("b2", name="[bold]bracket", finished=False)
    save_position(run_dir, "box", Position(offset=(run_dir / "journal.jsonl").stat().st_size, closed=True))
    status, out, _ = command("ls")
    first, second = out.splitlines()[1:]
    assert status == 0
    assert [
        word for word in ("amber-otter-12", "digits", "success", "10 s", "2", "box ✓", "a1") if word not in first
    ] == []
    assert [word for word in ("[bold]bracket", "crashed", "behind", "b2") if word not in second] == []


@pytest.mark.parametrize(
    ("width", "states"),
    [
        ("80", "wandb retrying, 5 behind · …"),
        ("90", "wandb retrying, 5 behind · comet 2 rejected · …"),
        ("200", "wandb retrying, 5 behind · comet 2 rejected · csv, tensorboard ✓"),
    ],
)
def test_ls_has_one_line_for_a_run_with_several_loggers(command, monkeypatch, width, states):
    monkeypatch.setenv("COLUMNS", width)
    keys = ("csv", "wandb", "tensorboard", "comet")
    run_dir = make_run("a" * 32, loggers={key: {"plugin": "box", "options": {}} for key in keys}).resolve()
    journal = (run_dir / "journal.jsonl").read_bytes()
    for key in keys:
        save_position(run_dir, key, Position(offset=len(journal), closed=True, rejected=2 * (key == "comet")))
    save_position(run_dir, "wandb", Position(offset=journal.index(b"\n") + 1, problem="the box is locked"))
    with FileLock(run_dir / "wandb.courier.lock"):
        heading, line = command("ls")[1].splitlines()
    assert line[heading.index("delivered") :].partition("  ")[0] == states
    assert len(line) <= int(width)


def test_ls_json(command):
    make_run()
    status, out, _ = command("ls", "--json")
    (run,) = json.loads(out)
    assert status == 0
    assert run["size"] == sum(path.stat().st_size for path in Path("rankzero-runs/digits/a1").iterdir())
    assert (run["id"], run["name"], run["project"], run["status"]) == ("a1", "amber-otter-12", "digits", "success")
    assert (run["started"], run["updated"], run["took"], run["step"]) == (100.0, 110.0, 10.0, 2)
    box = run["deliveries"]["box"]
    assert (box["status"], box["events"], box["behind"], box["problem"]) == ("behind", 0, 6, None)


def test_ls_shows_the_largest_step(command):
    add(make_run(), Metrics(120.0, 90, {"loss": 0.0}), Metrics(130.0, 7, {"late": 0.0}))
    (run,) = json.loads(command("ls", "--json")[1])
    assert run["step"] == 90


def test_ls_of_a_directory_sorts_by_start_and_does_not_look_into_runs(command):
    late = make_run("z9", directory="elsewhere")
    make_run("a1", directory="elsewhere")
    (late / "media" / "inner").mkdir(parents=True)
    (late / "media" / "inner" / "journal.jsonl").write_bytes((late / "journal.jsonl").read_bytes())
    _, out, _ = command("ls", "elsewhere", "--json")
    assert [run["id"] for run in json.loads(out)] == ["a1", "z9"]


def test_ls_shows_the_other_runs_if_one_is_damaged(command):
    make_run()
    Path("rankzero-runs/broken").mkdir()
    Path("rankzero-runs/broken/journal.jsonl").write_text("nonsense\n")
    status, out, err = command("ls")
    assert status == 1
    assert "amber-otter-12" in out
    assert "rankzero-runs/broken" in err


def test_ls_of_a_running_and_of_a_resumed_run(command):
    lock = WriterLock(make_run("a1", finished=False))
    resumed = make_run("b2")
    add(resumed, Start(120.0, RunInfo("b2", "n", "digits", ""), resumed=True), Metrics(130.0, 50, {"loss": 0.0}))
    _, out, _ = command("ls", "--json")
    assert [(run["status"], run["step"]) for run in json.loads(out)] == [("running", 2), ("crashed", 50)]
    lock.release()


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_tables_fit_the_terminal(command, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    loggers = {key: {"plugin": "box", "options": {}} for key in ("tensorboard", "mlflow-0a1b2c3d")}
    run_dir = make_run("20251121151326aaaabbbbccccdddd", name="x" * 100, loggers=loggers).resolve()
    save_position(run_dir, "tensorboard", Position(problem="the box is locked, " * 50))
    with FileLock(run_dir / "tensorboard.courier.lock"):
        listed, at_work = command("ls")[1].splitlines(), command("ps")[1].splitlines()
        shown = command("show")[1]
    assert {"run", "status", "delivered", "id"} <= {*listed[0].split()}
    assert {"run", "logger", "delivered", "state"} <= {*at_work[0].split()}
    assert len(at_work) == 3
    assert max(map(len, listed + at_work)) <= int(width)
    assert [line for line in (*listed, *at_work, *shown.splitlines()) if line != line.rstrip()] == []


# show


def test_show(command):
    run_dir = make_run("a1", Metrics(104.0, None, {"odd": "NaN"}), Text(105.0, "note", ["x"], [["y"]]))
    save_position(run_dir, "box", Position(offset=10, line=1, problem="the box is locked", rejected=2))
    status, out, _ = command("show", "a1")
    assert status == 1  # a delivery has a problem
    for words in ("amber-otter-12 · digits · success", "lr", "0.1", "loss", "0.3333", "█", "1 text"):
        assert words in out
    assert out.splitlines()[-5:] == [
        "logger  delivered",
        "box     failed, 7 behind, 2 rejected",
        "box: the box is locked",
        f"box: 2 events could not be delivered to box and stand in {run_dir.resolve()}/box.rejected.jsonl",
        "box: no courier is running; deliver with: rankzero sync a1",
    ]


@pytest.mark.parametrize("width", ["60", "80"])
def test_show_shortens_no_number_and_no_name(command, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    names = [f"train/{'x' * 50}/{end}" for end in ("left", "right")]
    make_run("a1", *(Metrics(104.0, 123_456_789, {name: 370_370_361}) for name in names))
    shown = command("show", "a1")[1]
    table = shown[shown.index("metric") : shown.index("logger")].splitlines()
    rows = [line.split() for line in table if line]
    assert "".join(row[0] for row in rows).endswith("".join(names))
    assert [row[1] for row in rows if row[1:]] == ["last", "0.3333", "370,370,361", "370,370,361"]
    assert max(map(len, table)) <= int(width)


def test_show_prints_the_group_parent_and_history_of_a_run(command):
    run_dir = make_run()
    info = RunInfo("a1", "amber-otter-12", "digits", str(run_dir.resolve()), group="grid", parent="a0", started=100.0)
    (run_dir / "journal.jsonl").write_bytes(encode(Start(100.0, info)))
    add(run_dir, Metrics(101.0, 0, {"loss": 1.0}), Start(3701.0, info, resumed=True), Rewind(3701.5, 20))
    add(run_dir, Metrics(3703.0, 21, {"loss": 0.5}), Finish(3704.5, "success"))
    heading = command("show", "a1")[1].splitlines()[1:3]
    assert heading[0].endswith(" · 4.5 s · group grid · part of a0")
    make_run("a0", name="the-sweep")
    assert command("show", "a1")[1].splitlines()[1].endswith(" · group grid · part of the-sweep")
    assert re.fullmatch(r"resumed at \S+ \S+ after a pause of 1 h · rewound to step 20", heading[1])
    found = json.loads(command("show", "a1", "--json")[1])
    assert (found["parent"], found["took"], found["resumed"]) == ("a0", 4.5, [3701.0])
    assert found["rewinds"] == [{"step": 20, "time": 3701.5}]
    add(run_dir, Start(3800.0, info, resumed=True), Rewind(3801.0, 5))
    heading = command("show", "a1")[1].splitlines()[2]
    assert re.fullmatch(r"resumed 2 times, last at \S+ \S+ · rewound 2 times, last to step 5", heading)
    add(run_dir, Params(111.0, {"forked_from": {"run": "a0", "step": 40}}))
    assert "forked from the-sweep at step 40 · resumed" in command("show", "a1")[1]


@pytest.mark.parametrize(
    "wanted",
    [
        "a1b2c3",
        "a1b",
        "b2c3",
        "…2c3",
        "...2c3",
        "a1b…",
        "amber-otter-12",
        "amber-",
        "am…12",
        "rankzero-runs/digits/a1b2c3",
    ],
)
def test_every_command_finds_a_run_by_path_and_by_part_of_its_id_or_name(command, wanted):
    make_run("a1b2c3")
    make_run("ffffff", name="other b2c3")
    assert "amber-otter-12" in command("show", wanted)[1]
    assert command("export", wanted)[0] == 0
    assert command("sync", wanted)[1].startswith("amber-otter-12")


def test_an_exact_name_or_id_wins_over_a_part(command):
    make_run("a1", name="one")
    make_run("a12", name="one-more")
    make_run("b1", name="a12")
    found = [json.loads(command("show", wanted, "--json")[1])["id"] for wanted in ("one", "a1", "a12")]
    assert found == ["a1", "a1", "a12"]


def test_a_name_is_found_beside_a_directory_of_that_name(command):
    make_run("a1", name="logs")
    Path("logs").mkdir()
    assert command("show", "logs")[1].startswith("logs")


@pytest.mark.parametrize("wanted", ["amber-otter-12", "amber", "a"])
def test_of_several_runs_the_candidates_are_listed(command, wanted):
    make_run("a1")
    make_run("a2")
    status, out, err = command("show", wanted)
    assert (status, out) == (2, "")
    assert f"2 runs match '{wanted}': " in err
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(100))
    assert f"amber-otter-12 (a1, success, {when}), amber-otter-12 (a2, success, {when}). Give the id" in err


@pytest.mark.parametrize(
    ("count", "words"), [(5, "). Give"), (6, ") and 1 older one. Give"), (7, ") and 2 older ones.")]
)
def test_of_many_runs_the_older_ones_are_counted(command, count, words):
    for number in range(count):
        make_run(f"a{number}")
    assert words in command("show", "amber")[2]


def test_of_runs_with_the_same_id_the_paths_are_listed(command):
    make_run("a1")
    make_run("a1", directory="rankzero-runs/more")
    assert "rankzero-runs/more/digits/a1. Give the path" in command("show", "a1")[2]


def test_show_without_a_run_shows_the_newest(command):
    make_run("a1")
    newest = Path("rankzero-runs", "digits", "a0")
    newest.mkdir()
    add(newest, Start(200.0, RunInfo("a0", "the-newest", "digits", "", started=200.0)))
    assert "the-newest" in command("show")[1]


@pytest.mark.parametrize("stop", [None, "sub/.git"])
def test_runs_are_found_upward_as_the_config_file_is(command, monkeypatch, stop):
    make_run("a1")
    Path("sub/deeper").mkdir(parents=True)
    if stop:
        Path(stop).mkdir()
    monkeypatch.chdir("sub/deeper")
    for arguments in (["show"], ["export", "a1"], ["sync", "a1"]):
        assert command(*arguments)[0] == (2 if stop else 0)
    assert ("a1" in command("ls")[1]) == (not stop)


@pytest.mark.parametrize("width", ["80", "200"])
def test_output_of_ls_can_be_used_as_an_argument(command, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    ids = [f"20251121151326{number}aaaabbbbcccc" for number in range(2)]
    make_run(ids[0], name="it's $HOME; [x] * 2")
    make_run(ids[1], name="x" * 100)
    lines = [line for line in command("ls")[1].splitlines() if "success" in line]
    for row, run_id in enumerate(ids):
        first, *_, last = shlex.split(lines[row])
        for word in (first, last):
            assert json.loads(command("show", word, "--json")[1])["id"] == run_id


def test_show_prints_the_environment(command):
    run_dir = make_run()
    assert "$" not in command("show", "a1")[1]
    assert json.loads(command("show", "a1", "--json")[1])["environment"] is None
    (run_dir / "surroundings" / "1").mkdir(parents=True)
    git = Git("/code", "1a2b3c4d5e6f", branch="trunk", dirty=True)
    found = Environment(
        host="node7", argv=("train.py", "--note=[bold] x"), python="3.12.1", torch="2.9.0", cpu="Fast CPU", cpus=16,
        memory=64_000_000_000, gpus=("H200", "H200"), git=git,
    )  # fmt: skip
    (run_dir / "surroundings" / "1" / "surroundings.json").write_bytes(msgspec.json.encode(found))
    assert command("show", "a1")[1].splitlines()[3:6] == [
        "$ python train.py '--note=[bold] x'",
        "git 1a2b3c4d5e (trunk, with changes) · Python 3.12.1 · torch 2.9.0",
        "node7 · 16 × Fast CPU · 64.0 GB · 2 × H200",
    ]
    shown = json.loads(command("show", "a1", "--json")[1])["environment"]
    assert (shown["git"]["dirty"], shown["gpus"]) == (True, ["H200", "H200"])


def test_show_says_that_no_courier_is_running(command):
    run_dir = make_run()
    says = "no courier is running; deliver with: rankzero sync a1"
    assert says in " ".join(command("show", "a1")[1].split())
    with FileLock(run_dir / "box.courier.lock"):
        assert says not in " ".join(command("show", "a1")[1].split())


def test_show_of_a_run_whose_courier_is_just_ending(command, monkeypatch):
    run_dir = make_run()
    lock = FileLock(run_dir / "box.courier.lock")
    lock.acquire()
    delivered = finding.delivered

    def delivered_before_the_end(*args):
        states = delivered(*args)
        lock.release()
        return states

    monkeypatch.setattr(finding, "delivered", delivered_before_the_end)
    shown = command("show", "a1")[1]
    assert not lock.is_locked
    assert "6 behind" in shown
    assert "no courier" not in shown


def test_show_shortens_a_long_parameter(command):
    make_run("a1", Params(100.6, {"prompt": "x" * 7000}))
    shown = command("show", "a1")[1]
    assert shown.count("x") in range(400, 500)
    assert "x…" in shown


def test_show_json(command):
    make_run("a1", Metrics(104.0, None, {"odd": "-Infinity"}))
    status, out, _ = command("show", "a1", "--json")
    run = json.loads(out)
    assert status == 0
    assert (run["params"], run["status"], run["finished"]) == ({"lr": 0.1}, "success", 110.0)
    assert run["metrics"]["loss"] == {
        "count": 3, "first_step": 0, "last_step": 2, "last": 1 / 3, "last_time": 103.0,
        "min": 1 / 3, "min_step": 2, "max": 1.0, "max_step": 0,
    }  # fmt: skip
    assert (run["metrics"]["odd"]["last"], run["metrics"]["odd"]["last_step"]) == ("-Infinity", None)


def test_show_says_how_to_view_the_run(command):
    run_dir = make_run()
    save_position(run_dir, "box", Position(view="open --lid [all] " + "x" * 200))
    save_position(run_dir, "other", Position(view="https://other/a1"))
    save_position(run_dir, "third", Position())
    _, out, _ = command("show", "a1")
    assert out.splitlines()[-2:] == [
        f"view it in box: open --lid [all] {'x' * 200}",
        "view it in other: https://other/a1",
    ]
    for words in (("show", "a1"), ("ls",)):
        found = json.loads(command(*words, "--json")[1])
        deliveries = (found if words[0] == "show" else found[0])["deliveries"]
        assert {key: each["view"] for key, each in deliveries.items()} == {
            "box": f"open --lid [all] {'x' * 200}",
            "other": "https://other/a1",
            "third": None,
        }


def test_show_plot(command):
    make_run()
    assert "┤" in command("show", "a1", "--plot", "loss")[1]
    status, _, err = command("show", "a1", "--plot", "los")
    assert status == 2
    assert "Did you mean 'loss'?" in err


def test_show_has_the_last_system_metrics_apart_from_the_others(command):
    measured = [
        Metrics(105.0, None, {"system/disk_free_gb": 812.4, "system/odd": 3, "system/gpu0/power_watts": watts})
        for watts in (100, 700.5)
    ]
    of_nodes = [{f"system/node{node}/gpu0/power_watts": node} for node in range(1, 41)]
    make_run(
        "a1", *(Metrics(106.0, None, {"system/node1/cpu_percent": 9.5} | values) for values in of_nodes), *measured
    )
    _, out, _ = command("show", "a1", "--plot", "system/gpu0/power_watts")
    assert (
        "\nmachine: disk free 812.4 GB · odd 3\ngpu0: power 700.5 W\nnode1: cpu 9.5 %\nnode1 gpu0: power 1 W\n" in out
    )
    assert "\nnode37 gpu0: power 37 W\n… 3 more: --json\n" in out
    assert "\nloss " in out
    assert out.count("system/") == out.count("system/gpu0/power_watts") == 1  # the title of the plot


def test_show_plot_without_plotext_fails_and_says_how_to_install_it(command, monkeypatch):
    make_run()
    monkeypatch.setitem(sys.modules, "plotext", None)
    status, out, err = command("show", "a1", "--plot", "loss")
    assert (status, err) == (1, "rankzero: --plot needs plotext: pip install plotext\n")
    assert "amber-otter-12" in out


def test_show_plot_of_a_metric_without_finite_values_fails(command):
    make_run("a1", Metrics(104.0, 1, {"odd": "NaN"}))
    status, _, err = command("show", "a1", "--plot", "odd")
    assert (status, "'odd' cannot be drawn" in err) == (1, True)


def test_show_counts_only_the_checkpoints_that_are_there(command):
    paths = [f"checkpoints/{number}/e.ckpt" for number in range(4)]
    run_dir = make_run("a1", *(Checkpoint(105.0, path) for path in paths))
    for path in paths[2:]:
        (run_dir / path).parent.mkdir(parents=True)
        (run_dir / path).touch()
    assert "2 checkpoints · 2 deleted checkpoints" in command("show", "a1")[1]
    exists = [each["exists"] for each in json.loads(command("show", "a1", "--json")[1])["checkpoints"]]
    assert exists == [False, False, True, True]


def test_show_counts_damaged_lines(command):
    run_dir = make_run()
    with (run_dir / "journal.jsonl").open("a") as file:
        file.write("nonsense\n")
    status, out, _ = command("show", "a1")
    assert status == 1
    assert "1 damaged line of" in out


# export


def test_export_csv(command):
    make_run("a1", Metrics(104.0, None, {"a,b": "NaN", "n": 2**53 + 1}, 7, "train"))
    status, out, _ = command("export", "a1")
    assert status == 0
    assert list(csv.reader(io.StringIO(out)))[2:] == [
        ["loss", "1", "102.0", "", "", "0.5"],
        ["loss", "2", "103.0", "", "", repr(1 / 3)],
        ["a,b", "", "104.0", "7", "train", "nan"],
        ["n", "", "104.0", "7", "train", str(2**53 + 1)],
    ]


def test_export_jsonl(command):
    make_run()
    _, out, _ = command("export", "a1", "--format", "jsonl")
    first = {"metric": "loss", "step": 0, "time": 101.0, "epoch": None, "stage": None, "value": 1.0}
    assert json.loads(out.splitlines()[0]) == first


@pytest.mark.parametrize("arguments", [["--output", "m.parquet"], ["--format", "parquet", "--output", "m.parquet"]])
def test_export_parquet(command, arguments):
    make_run()
    status, out, err = command("export", "a1", *arguments)
    assert (status, out) == (0, "")
    assert "3 points written to m.parquet" in err
    table = pyarrow.parquet.read_table("m.parquet")
    assert table["metric"].to_pylist() == ["loss"] * 3
    assert table["value"].to_pylist() == [1.0, 0.5, 1 / 3]


@pytest.mark.parametrize("name", ["m.xlsx", "m.csv.gz"])
def test_export_refuses_an_ending_that_it_cannot_write(command, name):
    make_run()
    status, _, err = command("export", "a1", "--output", name)
    assert status == 2
    assert "use .csv, .jsonl, .parquet, .duckdb, .db, or set --format" in err
    assert not Path(name).exists()
    assert command("export", "a1", "--output", name, "--format", "csv")[0] == 0
    assert Path(name).read_text().splitlines()[:2] == ["metric,step,time,epoch,stage,value", "loss,0,101.0,,,1.0"]


@pytest.mark.parametrize("arguments", [["--format", "parquet", "--output", "out"], ["--output", "out.duckdb"]])
def test_export_of_many_runs(command, arguments):
    make_run("a1", name="first")
    make_run("a2")
    Path(make_run("a3"), "journal.jsonl").write_bytes(b"nothing\n")
    status, out, err = command("export", "rankzero-runs/digits", *arguments)
    assert (status, out) == (1, f"2 runs with 6 points written to {arguments[-1]}\n")
    assert "digits/a3: not exported: " in err
    assert command("export", "first", "a2", *arguments)[:2] == (
        0,
        f"0 runs with 0 points written to {arguments[-1]}, 2 unchanged\n",
    )


@pytest.mark.parametrize("arguments", [["--output", "out"], ["--output", "m.csv"], []])
def test_export_says_how_many_damaged_lines_it_skipped(command, arguments):
    journal = make_run() / "journal.jsonl"
    lines = journal.read_bytes().splitlines()
    journal.write_bytes(b"\n".join([*lines[:2], lines[2][:20], b"nonsense", *lines[3:], b""]))
    status, _, err = command("export", "a1", *arguments)
    assert status == 0
    assert "skipped 2 damaged lines of the journal\n" in err
    assert "skipped 2 damaged lines of the journal" in command("show", "a1")[1]


def test_export_of_many_runs_to_one_file(command):
    make_run("a1")
    make_run("a2")
    status, _, err = command("export", "rankzero-runs", "--output", "m.csv")
    assert status == 2
    assert "2 runs do not fit into one file: name a directory with --output" in err


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("box", "The logger 'box' writes more than files. Deliver with: rankzero sync RUN --to box"),
        ("parqet", "Did you mean 'parquet'?"),
    ],
)
def test_export_to_a_format_that_does_not_exist(command, name, says):
    make_run()
    status, _, err = command("export", "a1", "--format", name, "--output", "out")
    assert status == 2
    assert says in err


def test_export_to_a_format_of_a_plugin_that_is_not_installed(command, monkeypatch):
    make_run()
    known = {"labbook": 'pip install "rankzero[labbook]"'}
    monkeypatch.setattr("rankzero.reader.exporting.registry.known_loggers", lambda: known)
    for name in ("labbook", "labbook-xml"):
        status, _, err = command("export", "a1", "--format", name, "--output", "out")
        assert (status, err) == (
            1,
            f"rankzero: The format {name!r} is not installed. Run: {known['labbook']}\n",
        )


def test_export_without_pyarrow(command, monkeypatch):
    make_run()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, err = command("export", "a1", "--output", "m.parquet")
    assert status == 1
    assert "pip install 'rankzero[data]'" in err


def test_export_to_a_path_that_cannot_be_written(command):
    make_run()
    status, _, err = command("export", "a1", "--output", f"{'x' * 300}.csv")
    assert status == 1
    assert "name too long" in err


# loggers


def test_loggers(command):
    status, out, _ = command("loggers")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert status == 0
    assert "ok" in lines["csv"]
    assert "rankzero-box 1.5" in lines["box"]
    assert f"numpy {__import__('numpy').__version__}" in lines["box"]
    (box,) = [each for each in json.loads(command("loggers", "--json")[1]) if each["logger"] == "box"]
    assert (box["state"], box["package"], box["version"]) == ("ok", "rankzero-box", "1.5")
    assert "box_for_tests" not in sys.modules


@pytest.mark.parametrize("width", ["40", "80"])
def test_loggers_shortens_nothing(command, monkeypatch, tmp_path, width):
    package = "rankzero-box-with-a-very-long-name"
    (tmp_path / "plugins" / "rankzero_box-1.5.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\nRequires-Dist: numpy\n"
    )
    monkeypatch.setenv("COLUMNS", width)
    out = command("loggers")[1]
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= int(width)


def test_loggers_that_can_be_installed(command, monkeypatch):
    monkeypatch.setattr("rankzero.plugins.registry.known_loggers", lambda: {"far": 'pip install "rankzero[far]"'})
    line = next(line for line in command("loggers")[1].splitlines() if line.startswith("far"))
    assert "not installed" in line
    assert 'pip install "rankzero[far]"' in line


@pytest.mark.parametrize(
    ("requires", "name", "target", "state", "todo"),
    [
        (["no-such-sdk>=2"], "w", "box_for_tests:Box", "broken", "pip install no-such-sdk"),
        ([], "w", "no_such_module:Box", "broken", "no module no_such_module"),
        ([], "box", "box_for_tests:Box", "duplicate", "rankzero-worse"),
        ([], "h", "box_for_tests", "hooks", ""),
    ],
)
def test_states_of_loggers(command, tmp_path, requires, name, target, state, todo):
    write_plugin(tmp_path / "plugins", "rankzero-worse", {name: target}, requires=requires)
    status, out, _ = command("loggers", "--json")
    row = next(each for each in json.loads(out) if each["logger"] == name)
    assert row["state"] == state
    assert todo in (row["what_to_do"] or "")
    assert status == (0 if state == "hooks" else 1)


# check


def test_check_really_writes(command):
    assert command("check", "box", "--option", "path=box.jsonl", "-o", "greeting=hi") == (0, "box: ok\n", "")
    kinds = [(each[1], *each[2:][:2]) for each in in_box()]
    assert kinds == [("params", {"check": True}, "hi"), ("metrics", {"check": 1.0}, 0), ("end", "success")]
    status, out, _ = command("check", "box", "--option", "path=box.jsonl", "--json")
    assert (status, json.loads(out)) == (0, {"logger": "box", "ok": True, "problem": None, "hooks": []})


def test_check_keeps_its_run_where_start_would(command, monkeypatch):
    attached = []

    def attach(self, run):
        self.run_info = run
        attached.append((run, Path(run.dir).is_dir()))

    monkeypatch.setattr(rankzero.Logger, "attach", attach)
    assert command("check", "box", "-o", "path=box.jsonl")[0] == 0
    ((run, is_there),) = attached
    assert is_there
    assert Path(run.dir) == Path(run.runs_dir, run.project, run.id)


def test_check_csv(command):
    assert command("check", "csv")[:2] == (0, "csv: ok\n")
    assert list(Path().iterdir()) == []


def test_check_takes_the_options_of_the_config_file(command):
    Path("rankzero.toml").write_text('[loggers.box]\npath = "from-config.jsonl"\n')
    assert command("check", "box")[0] == 0
    assert in_box("from-config.jsonl") != []


def test_check_prints_the_problem_in_one_line(command):
    Path("box.jsonl.down").touch()
    assert command("check", "box", "-o", "path=box.jsonl") == (1, "", "box: the box is locked\n")


def test_check_shows_no_secret(command, monkeypatch):
    monkeypatch.setenv("PIN", "wrong-pin")
    status, _, err = command("check", "box", "-o", "path=box.jsonl", "-o", "pin=${PIN}")
    assert status == 1
    assert err == "box: PermissionError: the pin *** is wrong, says the box\n"


def test_check_of_a_wrong_option(command):
    status, _, err = command("check", "box", "-o", "path=x", "-o", "greting=hi")
    assert status == 2
    assert "the command line: the logger 'box' has no option 'greting'. Did you mean 'greeting'?" in err


def test_check_says_where_an_option_with_an_unset_variable_is_set(command):
    Path("rankzero.toml").write_text('[loggers.box]\npath = "box.jsonl"\npin = "${BOX_PIN}"\n')
    status, _, err = command("check", "box")
    assert status == 2
    assert "rankzero.toml [loggers.box]: the option 'pin' needs the environment variable BOX_PIN" in err
    with pytest.raises(rankzero.errors.MissingSecretError, match=r"rankzero.toml \[loggers.box\]: the option 'pin'"):
        rankzero.start("box")


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        ("@rankzero.hookimpl\ndef rankzero_run_started(run): pass\n", 0, "hk: ok, it has rankzero_run_started\n"),
        ("@rankzero.hookimpl\ndef rankzero_run_begun(run): pass\n", 1, "there is no hook 'rankzero_run_begun'"),
        ("import no_such_sdk\n", 1, "No module named 'no_such_sdk'"),
        ("1 / 0\n", 1, "ZeroDivisionError"),
        ("def rankzero_run_started(run): pass\n", 1, "hooks_for_tests has no hooks"),
    ],
)
def test_check_of_hooks(command, tmp_path, code, status, says):
    modules = {"hooks_for_tests": f"import rankzero\n{code}"}
    write_plugin(tmp_path / "plugins", "rankzero-hk", {"hk": "hooks_for_tests"}, **modules)
    try:
        found, out, err = command("check", "hk")
        assert command("check", "hk", "-o", "x=1")[0] == 2
    finally:
        sys.modules.pop("hooks_for_tests", None)
    assert found == status
    assert says in (out if status == 0 else err)
    assert "Traceback" not in err
    assert (out + err).count("\n") == 1


def test_check_of_a_tracker_that_hangs():
    Path("box.jsonl.hangs").touch()
    code = "import sys; from rankzero.cli.app import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "box", "-o", "path=box.jsonl", "--timeout", "0.5"],
        env=os.environ | {"STUBBORN": "1"},
        capture_output=True,
        text=True,
        timeout=A_WHILE,
    )
    assert (done.returncode, done.stderr) == (1, "box: TimeoutError: no answer within 0.5 s\n")


# sync


def test_sync_delivers_to_the_loggers_of_the_run(command):
    run_dir = make_run()
    status, out, err = command("sync", run_dir)
    assert (status, out, err) == (0, "amber-otter-12 → box: delivered, 6 events\n", "")
    assert in_box() == [
        ["a1", "params", {"lr": 0.1}, "hello"],
        *(["a1", "metrics", {"loss": 1 / (step + 1)}, step, 101.0 + step] for step in range(3)),
        ["a1", "end", "success"],
    ]
    assert load_position(run_dir, "box").closed


def test_ls_and_show_with_an_invalid_position(command):
    save_position(make_run(), "box", Position(offset=-5))
    assert "box" in command("ls")[1]
    assert "box" in command("show", "a1")[1]


def test_sync_counts_delivered_events_and_says_how_to_view_them(command, monkeypatch):
    monkeypatch.setenv("BOX_VIEW", "open box")
    run_dir = make_run()
    first = (run_dir / "journal.jsonl").read_bytes().splitlines(keepends=True)[0]
    save_position(run_dir, "box", Position(offset=len(first), line=1))
    assert "box 5 behind" in command("ls")[1]
    assert "5 behind" in command("show", "a1")[1]
    assert command("sync", "a1")[1] == "amber-otter-12 → box: delivered, 5 events\nview it in box: open box\n"


def test_sync_delivers_from_the_shell_of_any_rank(command, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "3")
    make_run()
    assert command("sync", "a1")[0] == 0
    assert len(in_box()) == 5


def test_sync_gives_up_on_a_tracker_that_hangs(command, monkeypatch):
    monkeypatch.setattr("rankzero.delivery.sync_job._HANGING", 0.5)
    monkeypatch.setattr("rankzero.delivery.sync_job._LAST_BATCH", 0.5)
    box = Path("stuck").absolute()  # it is written to later, when the working directory is another one
    make_run(loggers={"box": {"plugin": "box", "options": {"path": str(box)}}})
    box.with_suffix(".hangs").touch()
    status, _, err = command("sync", "a1", "--timeout", "0.5")
    assert status == 1
    assert "no answer from the tracker" in err


def test_sync_sends_nothing_twice(command):
    run_dir = make_run()
    command("sync", run_dir)
    before = in_box()
    says = "amber-otter-12: box has all of it already; --again sends it once more\n"
    assert command("sync", "a1") == (0, says, "")
    assert in_box() == before
    assert command("deliver")[1] == "amber-otter-12: box has all of it already\n"


def test_sync_again_begins_at_the_beginning(command):
    run_dir = make_run()
    command("sync", run_dir)
    former = (run_dir / "box.position.json").read_bytes()
    Path("box.jsonl").unlink()  # the tracker was wiped
    assert command("sync", "a1", "--again") == (0, "amber-otter-12 → box: delivered, 6 events\n", "")
    assert len(in_box()) == 5
    assert (run_dir / "box.position.before").read_bytes() == former
    assert command("sync", "a1")[0] == 0
    assert len(in_box()) == 5


def test_sync_again_disturbs_no_courier(command):
    run_dir = make_run()
    save_position(run_dir, "box", Position(offset=10, line=1, pid=4711, host="node7"))
    with FileLock(run_dir / "box.courier.lock"):
        status, out, err = command("sync", "a1", "--again")
    assert (status, out) == (1, "")
    assert "process 4711 on node7 delivers" in err
    assert load_position(run_dir, "box").line == 1


def test_sync_with_other_options_is_another_target(command):
    make_run(loggers={})
    for path in ("a.jsonl", "b.jsonl"):
        status, out, _ = command("sync", "a1", "--to", "box", "-o", f"path={path}")
        assert status == 0
        assert out.endswith(": delivered, 6 events\n")
    assert len(in_box("a.jsonl")) == len(in_box("b.jsonl")) == 5
    _, out, _ = command("sync", "a1", "--to", "box", "-o", "path=a.jsonl")
    assert "has all of it already" in out
    assert len(in_box("a.jsonl")) == 5


@pytest.mark.parametrize("arguments", [[], ["--to", "box"]])
def test_options_that_differ_from_the_recorded_ones_are_another_target(command, arguments):
    run_dir = make_run()
    command("sync", "a1")
    status, out, _ = command("sync", "a1", *arguments, "-o", "path=other.jsonl")
    key = out.partition("→ ")[2].partition(":")[0]
    assert status == 0
    assert len(in_box("other.jsonl")) == len(in_box()) == 5
    assert key.startswith("box-")
    assert load_position(run_dir, key).closed
    status, _, err = command("sync", "a1", "--to", key)
    assert status == 2
    assert "give them again: --to box" in err


def test_the_recorded_options_and_secrets_are_the_same_target(command, monkeypatch):
    monkeypatch.setenv("PIN", "some-pin")
    make_run()
    command("sync", "a1")
    for option in (f"path={os.path.abspath('box.jsonl')}", "pin=other-pin", "pin=${PIN}"):
        assert "box has all of it already" in command("sync", "a1", "-o", option)[1]
    assert len(in_box()) == 5


def test_the_key_of_a_target_does_not_depend_on_a_secret(command):
    run_dir = make_run(loggers={})
    urls = ("http://me:one@host/x", "http://me:two@host/x", "http://me:one@other/x")
    for url in urls:
        assert command("sync", "a1", "--to", "box", "-o", "path=a.jsonl", "-o", f"greeting={url}")[0] == 0
    assert len(list(run_dir.glob("box-*.position.json"))) == 2
    assert len(in_box("a.jsonl")) == 10


def test_repeated_options_of_a_config_file_are_the_same_destination(command):
    make_run(loggers={})
    Path("rankzero.toml").write_text('[loggers.box]\npath = "box.jsonl"\n')
    assert command("sync", "a1", "--to", "box")[1] == "amber-otter-12 → box: delivered, 6 events\n"
    assert "box has all of it already" in command("sync", "a1", "--to", "box", "-o", "path=box.jsonl")[1]


def test_options_are_checked_when_there_is_nothing_to_send(command):
    make_run()
    command("sync", "a1")
    status, out, err = command("sync", "a1", "-o", "greting=hi")
    assert (status, out) == (2, "")
    assert "Did you mean 'greeting'?" in err


def record(**started):
    """Start a run that nobody delivers, and return its directory."""
    with rankzero.start(delivery="off", **started) as run:
        run.log_metrics({"loss": 1.0}, step=0)
    return Path(run.dir)


def test_a_secret_that_was_left_out_is_asked_for(command, monkeypatch):
    run_dir = record(loggers="box", path=os.path.abspath("box.jsonl"), pin="some-pin", greeting="hi")
    assert "some-pin" not in (run_dir / "journal.jsonl").read_text()
    status, out, err = command("sync", run_dir)
    assert (status, out) == (2, "")
    assert "the option 'pin' was not recorded because it is a secret; give it with -o pin='${ENV_NAME}'" in err
    status, _, err = command("deliver")
    assert status == 1
    assert "the option 'pin' was not recorded" in err
    assert in_box() == []
    monkeypatch.setenv("PIN", "some-pin")
    status, out, _ = command("sync", run_dir, "-o", "pin=${PIN}")
    assert status == 0
    assert "→ box: delivered" in out
    assert load_position(run_dir, "box").closed


def test_a_secret_that_was_left_out_may_stand_in_a_config_file(command, monkeypatch):
    run_dir = record(loggers="box", path=os.path.abspath("box.jsonl"), pin="some-pin")
    Path("rankzero.toml").write_text('[loggers.box]\npin = "${PIN}"\npath = "elsewhere"\n')
    status, _, err = command("sync", run_dir)
    assert status == 2
    assert "rankzero.toml [loggers.box]: the option 'pin' needs the environment variable PIN" in err
    monkeypatch.setenv("PIN", "some-pin")
    assert command("deliver")[0] == 0
    assert in_box() != []


def test_a_reference_to_a_secret_is_not_asked_for(monkeypatch, command):
    run_dir = record(loggers="box", path=os.path.abspath("box.jsonl"), pin="${PIN}")
    assert b"left_out" not in (run_dir / "journal.jsonl").read_bytes()
    monkeypatch.setenv("PIN", "some-pin")
    assert command("sync", run_dir)[0] == 0


class Unnamed(rankzero.Logger):
    """A logger that no plugin provides."""

    def __init__(self, path):
        self.path = Path(path)

    name = property(lambda self: "unnamed")
    version = property(lambda self: self.run_info.id)

    def log_hyperparams(self, params):
        pass

    def log_metrics(self, metrics, step=None):
        with self.path.open("a") as file:
            file.write(f"{metrics}\n")


def test_a_logger_without_a_name_is_warned_of_and_delivered_to_from_python(command, caplog):
    run_dir = record(loggers=[Unnamed("out.txt")])
    assert "no plugin provides" in caplog.text
    assert "rankzero.deliver" in caplog.text
    status, _, err = command("sync", run_dir)
    assert status == 2
    assert f"rankzero sync {run_dir} --to NAME" in err
    rankzero.deliver(run_dir, Unnamed("out.txt"))
    rankzero.deliver(run_dir, Unnamed("out.txt"))
    assert Path("out.txt").read_text() == "{'loss': 1.0}\n"
    assert load_position(run_dir, "unnamed").closed
    rankzero.deliver(run_dir, Unnamed("second.txt"), key="second")
    assert Path("second.txt").exists()


class Unreachable(Unnamed):
    def log_metrics(self, metrics, step=None):
        raise ConnectionError("nobody listens")


def test_deliver_from_python_raises_where_something_is_missing():
    run_dir = record(loggers=[])
    with pytest.raises(rankzero.errors.DeliveryError, match=r"not all of it is delivered: .*nobody listens"):
        rankzero.deliver(run_dir, Unreachable("out.txt"), timeout=0.2)
    with pytest.raises(rankzero.errors.RunNotFoundError):
        rankzero.deliver("nowhere", Unnamed("out.txt"))


def test_a_class_that_got_a_name_later_is_delivered_to_by_it(command):
    make_run(loggers={"box": {"class": "train:Box"}})
    assert command("sync", "a1")[0] == 2
    assert command("sync", "a1", "--to", "box", "-o", "path=box.jsonl")[0] == 0
    assert len(in_box()) == 5


def test_sync_closes_a_run_that_crashed(command):
    make_run(finished=False)
    assert command("sync", "a1")[0] == 0
    assert in_box()[-1] == ["a1", "end", "crashed"]


def test_sync_expands_secrets(command, monkeypatch):
    make_run(loggers={"box": {"plugin": "box", "options": {"path": "${WHERE}", "greeting": "hi"}}})
    status, _, err = command("sync", "a1")
    assert status == 2
    assert "WHERE" in err
    monkeypatch.setenv("WHERE", "there.jsonl")
    assert command("sync", "a1")[0] == 0
    assert in_box("there.jsonl")[0][-1] == "hi"


def test_sync_takes_the_loggers_of_a_resumed_run_too(command):
    run_dir = make_run()
    later = {"later": {"plugin": "box", "options": {"path": "later.jsonl"}}}
    add(run_dir, Start(111.0, RunInfo("a1", "n", "p", str(run_dir)), later, resumed=True), Finish(112.0, "success"))
    status, out, _ = command("sync", "a1")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["amber-otter-12 → box", "amber-otter-12 → later"]
    assert in_box("later.jsonl") == in_box()


@pytest.mark.parametrize(
    ("loggers", "arguments", "status", "says"),
    [
        ({}, [], 2, "names no logger; give one with --to NAME"),
        ({"x": {"class": "train:Mine"}}, [], 2, "does not import a class because a journal names it. Give the class a"),
        ({"x": {"class": "train:Mine"}}, ["--to", "x"], 2, "is an object of train:Mine, which no plugin provides"),
        ({"x": {"plugin": "bxo", "options": {}}}, [], 2, "Did you mean 'box'?"),
        ({"box": {"plugin": "box", "options": {"path": "p", "greting": 1}}}, [], 2, "Did you mean 'greeting'?"),
        ({}, ["--to", "box"], 2, "needs 'path'"),
    ],
)
def test_sync_to_a_logger_that_cannot_be_made(command, loggers, arguments, status, says):
    make_run(loggers=loggers)
    found, out, err = command("sync", "a1", *arguments)
    assert (found, out) == (status, "")
    assert says in err


@pytest.mark.parametrize("arguments", [["sync", "a1"], ["deliver", "rankzero-runs"]])
@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"plugin": "no-such-logger"}, "no-such-logger"),
        ({"class": "train:Mine"}, "is an object of train:Mine"),
        ({"plugin": "box"}, "the logger 'box' needs 'path'"),
    ],
)
def test_a_logger_that_cannot_be_made_does_not_keep_the_run_from_the_others(command, arguments, broken, says):
    make_run(loggers={"broken": {**broken, "options": {}}, "box": {"plugin": "box", "options": {"path": "box.jsonl"}}})
    status, out, err = command(*arguments)
    assert status == 1
    assert "amber-otter-12 → box: delivered" in out
    assert says in err
    assert len(in_box()) == 5


def test_sync_reports_rejected_events(command):
    run_dir = make_run("a1", Metrics(105.0, 9, {"bad": 1.0}), Metrics(106.0, 10, {"loss": 0.0}))
    status, _, err = command("sync", "a1")
    assert status == 1
    rejected = run_dir.absolute() / "box.rejected.jsonl"
    assert err == f"amber-otter-12: 1 event could not be delivered to box and stands in {rejected}\n"
    assert in_box()[-2][2:4] == [{"loss": 0.0}, 10]


def test_sync_gives_up_on_a_tracker_that_stays_down(command):
    run_dir = make_run()
    Path("box.jsonl.down").touch()
    began = time.monotonic()
    status, out, err = command("sync", "a1", "--timeout", "0.5")
    assert (status, out) == (1, "")
    assert "5 events not delivered: the box is locked" in err
    assert 0.5 < time.monotonic() - began < SOON
    Path("box.jsonl.down").unlink()
    assert command("sync", run_dir)[0] == 0
    assert len(in_box()) == 5


def test_sync_waits_for_a_tracker_that_comes_back(command):
    make_run()
    Path("box.jsonl.down").touch()
    threading.Timer(1.0, Path("box.jsonl.down").absolute().unlink).start()
    assert command("sync", "a1", "--timeout", "30")[0] == 0
    assert len(in_box()) == 5


def test_sync_watches_the_courier_that_is_there_already(command):
    run_dir = make_run()
    lock = FileLock(run_dir / "box.courier.lock", thread_local=False)
    lock.acquire()

    def deliver():
        time.sleep(1.0)
        size = (run_dir / "journal.jsonl").stat().st_size
        save_position(run_dir, "box", Position(offset=size, line=6, closed=True))

    other = threading.Thread(target=deliver)
    other.start()
    status, out, _ = command("sync", "a1")
    other.join()
    lock.release()
    assert (status, out) == (0, "amber-otter-12 → box: delivered, 6 events\n")
    assert in_box() == []  # the other courier did it


def test_sync_gives_up_watching_a_courier_whose_tracker_is_down(command):
    run_dir = make_run()
    problem = "TrackerUnavailableError: the box is locked"
    save_position(run_dir, "box", Position(offset=10, line=1, problem=problem, pid=4711, host="node7"))
    began = time.monotonic()
    with FileLock(run_dir / "box.courier.lock"):
        status, out, err = command("sync", "a1", "--timeout", "2.5")
    assert (status, out) == (1, "")
    assert "process 4711 on node7 delivers it, and continues to retry: the box is locked" in err
    assert err.count("\n") == 1
    assert 2.5 < time.monotonic() - began < SOON
    assert wake_time(run_dir, "box") > 0


@pytest.fixture
def retrying(monkeypatch):
    """Start a courier that has no success, in a thread, which is returned, until another one takes over."""
    monkeypatch.setattr("rankzero.delivery.sync_job._TAKE_OVER_AFTER", 0.5)

    def retrying(run_dir, problem):
        def make():
            raise TrackerUnavailableError(problem)

        thread = threading.Thread(target=Courier(run_dir, "box", make).run)
        thread.start()
        until(lambda: load_position(run_dir, "box").problem)
        return thread

    return retrying


def test_sync_takes_over_from_a_courier_with_the_wrong_password(command, retrying):
    thread = retrying(make_run(), "401: wrong password")
    status, out, _ = command("sync", "a1")
    thread.join(A_WHILE)
    assert not thread.is_alive()
    assert (status, out) == (0, "amber-otter-12 → box: delivered, 6 events\n")
    assert in_box()


def test_sync_says_that_the_courier_it_took_over_from_has_ended(command, retrying):
    Path("box.jsonl.down").touch()
    thread = retrying(make_run(), "down")
    status, _, err = command("sync", "a1", "--timeout", "2")
    thread.join(A_WHILE)
    assert status == 1
    assert "the box is locked" in err
    assert "nothing is retried now: run rankzero sync again when box takes events" in err


def test_sync_wakes_the_courier_that_waits_again_and_again(command, monkeypatch):
    run_dir = make_run()
    woken = []
    monkeypatch.setattr("rankzero.delivery.sync_job.wake", lambda *which: woken.append(which))
    monkeypatch.setattr("rankzero.delivery.sync_job._WAKE_EVERY", 0.3)
    save_position(run_dir, "box", Position(problem="down"))
    with FileLock(run_dir / "box.courier.lock"):
        command("sync", "a1", "--timeout", "1")
    assert set(woken) == {(run_dir.absolute(), "box")}
    assert 3 <= len(woken) <= 5


def test_sync_keeps_watching_a_courier_that_makes_progress(command):
    run_dir = make_run()
    size = (run_dir / "journal.jsonl").stat().st_size
    lock = FileLock(run_dir / "box.courier.lock", thread_local=False)
    lock.acquire()

    def deliver():
        for part in range(8):
            save_position(run_dir, "box", Position(offset=size * part // 8, line=part, problem="slow"))
            time.sleep(0.3)
        save_position(run_dir, "box", Position(offset=size, line=6, closed=True))

    other = threading.Thread(target=deliver)
    other.start()
    status, out, _ = command("sync", "a1", "--timeout", "1")
    other.join()
    lock.release()
    assert (status, out.partition(", ")[0]) == (0, "amber-otter-12 → box: delivered")


def test_sync_of_a_run_that_is_still_written_ends(command):
    run_dir = make_run(finished=False)
    lock = WriterLock(run_dir)
    assert command("sync", "a1")[0] == 0
    assert [each[1] for each in in_box()] == ["params", "metrics", "metrics", "metrics"]
    lock.release()


@pytest.mark.slow
def test_sync_shows_a_progress_bar_on_a_terminal():
    import pty

    make_run("a1", *(Metrics(1.0, step, {"loss": step}) for step in range(2000)))
    ours, theirs = pty.openpty()
    code = "import sys; from rankzero.cli.app import main; sys.exit(main(['sync', 'a1']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:
        pass  # the terminal is gone
    assert process.wait() == 0
    process.stdout.close()
    os.close(ours)
    assert "amber-otter-12 → box" in shown.decode()
    assert "━" in shown.decode()


# deliver


def test_deliver_takes_all_runs_below_a_directory(command):
    make_run("a1")
    make_run("b2", name="quick-owl-7", finished=False)
    status, out, _ = command("deliver", "rankzero-runs")
    assert status == 0
    assert "amber-otter-12 → box: delivered" in out
    assert sorted(each[0] for each in in_box() if each[1] == "end") == ["a1", "b2"]
    assert len(in_box()) == 10


def test_deliver_skips_runs_that_it_cannot_deliver(command):
    make_run("a1", loggers={"x": {"plugin": "no-such-logger", "options": {}}})
    make_run("b2", name="quick-owl-7")
    status, out, err = command("deliver", "rankzero-runs")
    assert status == 1
    assert "quick-owl-7 → box: delivered" in out
    assert "no-such-logger" in err


@pytest.fixture
def watching():
    """Start ``rankzero deliver --watch``; end it as a service manager would."""
    code = "import sys; from rankzero.cli.app import main; sys.exit(main(['deliver', '--watch', 'rankzero-runs']))"
    os.makedirs("rankzero-runs", exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_deliver_watches_for_runs_that_appear_and_grow(watching):
    make_run("a1")
    until(lambda: len(in_box()) == 5)
    run_dir = make_run("b2", name="quick-owl-7", finished=False)
    lock = WriterLock(run_dir)  # which this process writes
    until(lambda: len(in_box()) == 9)
    add(run_dir, Metrics(200.0, 3, {"loss": 0.0}))
    until(lambda: in_box()[-1][2:4] == [{"loss": 0.0}, 3])
    add(run_dir, Finish(201.0, "failed"))
    lock.release()
    until(lambda: in_box()[-1] == ["b2", "end", "failed"])
    add(
        run_dir,
        Start(300.0, RunInfo("b2", "n", "p", ""), resumed=True),
        Metrics(301.0, 4, {"loss": -1.0}),
        Finish(302.0, "success"),
    )
    until(lambda: in_box()[-1] == ["b2", "end", "success"])
    watching.send_signal(signal.SIGTERM)
    _, err = watching.communicate(timeout=A_WHILE)
    assert watching.returncode == 0
    assert err.count("amber-otter-12 → box is delivered") == 1
    assert "Traceback" not in err
    assert len(in_box()) == 13


def test_deliver_delivers_many_runs_that_ended_a_few_at_a_time(command, monkeypatch):
    from rankzero.cli.deliver import Watch

    monkeypatch.setattr("rankzero.cli.deliver._MOST_ENDED_RUNS", 2)
    ended = [make_run(f"e{number}", name=f"e{number}") for number in range(5)]
    live = [make_run(f"live{number}", finished=False) for number in range(3)]
    locks = [WriterLock(run_dir) for run_dir in live]
    watch = Watch("runs", lambda: find_runs("rankzero-runs"), ())
    together = []
    begin = SyncJob.poll

    def poll(job):
        together.append(sum(each.sync.run_dir in ended for each in watch._jobs.values()))
        if all(Path(each, "box.position.json").exists() for each in (*ended, *live)) and len(in_box()) == 37:
            watch._stopping.set()
        return begin(job)

    monkeypatch.setattr(SyncJob, "poll", poll)
    monkeypatch.setattr("rankzero.cli.deliver._SEARCH_EVERY", 0.1)
    watch.run()
    assert max(together) == 2
    for lock in locks:
        lock.release()


def test_deliver_goes_on_at_once_with_a_run_that_is_resumed_when_it_was_just_delivered(command, monkeypatch):
    from rankzero.cli.deliver import Watch

    run_dir = make_run("a1")
    watch = Watch("runs", lambda: find_runs("rankzero-runs"), ())
    poll = SyncJob.poll

    def resume_at_the_end(job):
        is_done = poll(job)
        if is_done and len(in_box()) == 5:
            add(run_dir, Start(300.0, RunInfo("a1", "n", "p", ""), resumed=True), Finish(302.0, "aborted"))
        elif is_done:
            watch._stopping.set()
        return is_done

    monkeypatch.setattr(SyncJob, "poll", resume_at_the_end)
    watch.run()
    assert in_box()[-1] == ["a1", "end", "aborted"]


@pytest.mark.slow
def test_deliver_watches_a_tracker_that_is_down(watching):
    Path("box.jsonl.down").touch()
    run_dir = make_run("a1")
    until(lambda: load_position(run_dir, "box").problem)
    Path("box.jsonl.down").unlink()
    until(lambda: len(in_box()) == 5)
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=A_WHILE)
    assert watching.returncode == 0


# ps and stop


@pytest.fixture
def training(tmp_path):
    """Start a run below another directory whose box is in trouble: ``down`` or ``hangs``."""
    runs = []

    def training(trouble, delivery):
        Path(f"box.jsonl.{trouble}").touch()
        options = {"path": os.path.abspath("box.jsonl"), "dir": tmp_path / "elsewhere", "delivery": delivery}
        runs.append(rankzero.start("box", name="amber-otter-12", **options))
        runs[-1].log_metrics({"loss": 0.5})
        return runs[-1]

    yield training
    for run in runs:
        run.finish(timeout=0.0)
        for each in at_work(run.dir):
            active_couriers.kill(each)


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_a_courier_that_retries_is_listed_and_can_be_stopped(command, training, delivery):
    run = training("down", delivery)
    until(lambda: load_position(run.dir, "box").problem)
    status, out, _ = command("ps")
    pid = load_position(run.dir, "box").pid
    assert status == 0
    heading, line, reason = out.splitlines()
    assert heading.split() == ["run", "logger", "delivered", "since", "process", "state"]
    assert re.fullmatch(rf"amber-otter-12 +box +nothing yet +\S+ +{pid} +retrying", line)
    assert reason == "  the box is locked"
    (listed,) = json.loads(command("ps", "--json")[1])
    assert (listed["dir"], listed["logger"], listed["pid"]) == (str(run.dir), "box", pid)
    assert "box retrying, " in command("ls", run.dir)[1]
    status, out, _ = command("stop", "amber-otter-12", "--timeout", A_WHILE)
    assert status == 0
    assert re.search(
        rf"^amber-otter-12 → box: stopped; \d+ events? waits? in the journal; deliver with: .* {run.dir}$", out
    )
    assert command("ps") == (0, "", "no courier is at work\n")
    assert "retrying" not in command("ls", run.dir)[1]
    run._next_tick = 0.0
    run.log_metrics({"loss": 0.25})
    run.finish()
    assert not at_work(run.dir)  # training has not started it again
    Path("box.jsonl.down").unlink()
    assert command("sync", run.dir)[0] == 0
    assert [each[2] for each in in_box() if each[1] == "metrics"] == [{"loss": 0.5}, {"loss": 0.25}]


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_a_courier_that_hangs_is_killed_only_if_nothing_else_dies_with_it(command, training, delivery):
    run = training("hangs", delivery)
    until(Path("box.jsonl.hanging").exists)
    status, _, err = command("stop", run.id, "--timeout", "0.2")
    assert status == 1
    assert "ends when it has sent what it is sending; end it now with --kill" in err
    status, out, err = command("stop", run.id[:-1], "--timeout", "0.2", "--kill")
    if delivery == "thread":
        assert status == 1
        assert "is not killed: it also does something else" in err
        return
    assert status == 0
    assert "amber-otter-12 → box: killed;" in out
    run._next_tick = 0.0
    run.log_metrics({"loss": 0.25})
    run.finish()
    assert not at_work(run.dir)


def test_stop_reports_a_missing_courier(command):
    make_run()
    status, _, err = command("stop", "a1")
    assert status == 2
    assert "there is no run 'a1' that is being delivered." in err
    assert err.endswith("list runs with: rankzero ps\n")
    status, _, err = command("stop", "rankzero-runs/digits/a1", "--logger", "box")
    assert status == 2
    assert "digits/a1 to 'box' now; list those that are at work with: rankzero ps" in err


def test_a_note_of_a_courier_that_is_gone_means_nothing(command):
    """It was killed; another process may have its id now."""
    run_dir = make_run().resolve()
    with active_couriers.noted(run_dir, "box"):
        (note,) = Path(os.environ["XDG_STATE_HOME"], "rankzero", "couriers").iterdir()
        content = json.loads(note.read_text())
    content["process"]["started"] -= 1
    note.write_text(json.dumps(content))
    with FileLock(run_dir / "box.courier.lock"):
        (courier,) = at_work(run_dir)
        assert courier.pid == os.getpid()
        assert not active_couriers.kill(courier)
    assert command("ps") == (0, "", "no courier is at work\n")
    assert not note.exists()


# How things are shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.44, "0.4 s"),
        (12, "12 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (270_000, "3 d 3 h"),
        (-1, "0.0 s"),
    ],
)
def test_duration(seconds, shown):
    assert terminal.duration(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 events"), (1, "1 event"), (1200, "1,200 events")])
def test_counted(count, shown):
    assert terminal.counted(count, "event") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (12345, "12,345"),
        (0.5, "0.5"),
        (1 / 3, "0.3333"),
        (3.0, "3"),
        (1e9, "1e+09"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_number(value, shown):
    assert terminal.number(value) == shown


def test_sparkline():
    assert terminal.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert terminal.sparkline([1, float("nan"), float("inf"), 2]) == "▁  █"
    assert terminal.sparkline([5, 5, 5]) == "▁▁▁"
    assert terminal.sparkline([0.001] * 97, 3) == "▁▁▁"
    assert terminal.sparkline([]) == terminal.sparkline([float("nan")]) == ""
    assert len(terminal.sparkline(range(100_000), 40)) == 40
