"""``rankzero import``: the choice of the importer, the output and the exit status."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from waiting import A_WHILE, until

import rankzero
from rankzero.cli import app as cli
from rankzero.cli import terminal
from rankzero.errors import RunNotFoundError
from rankzero.events.structs import Metrics
from rankzero.importers.base import FoundRun, Header, Importer, SkipRun
from rankzero.plugins import hookspecs
from rankzero.plugins.registry import get_plugins
from rankzero.rundir.writer_lock import WriterLock

SOURCE = Path(__file__).parents[1] / "plugins_for_tests" / "rankzero-diary" / "src"


class Broken(FoundRun):
    identity = source = "broken.txt"
    project = "team/old"

    def header(self):
        return Header(name="broken")

    def events(self, files, report):
        yield Metrics(1.0, 0, {"loss": 0.5})
        raise ValueError("page 2 is missing")


class BrokenImporter(Importer):
    summary = "unreadable runs"

    def find(self, paths):
        return [Broken()]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty directory, and the importer of the diary plugin."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SOURCE))
    monkeypatch.delenv("RANKZERO_DIR", raising=False)
    monkeypatch.delenv("RANKZERO_PLUGINS", raising=False)
    get_plugins.cache_clear()
    from rankzero_diary.importing import DiaryImporter

    offer({"diary": DiaryImporter}, "diary-hooks")
    Path("diary.txt").write_text("sunny\nrainy\n")
    yield
    get_plugins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("rankzero_diary")]:
        del sys.modules[name]


def offer(importers, plugin):
    hook = hookspecs.hookimpl(lambda: importers)
    get_plugins().manager.register(SimpleNamespace(rankzero_importers=hook), plugin)


@pytest.fixture
def command(capsys):
    def command(*arguments):
        status = cli.main(["import", *map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err

    return command


def days(project="diary"):
    (run_dir,) = Path("rankzero-runs", project).iterdir()
    return [text.data[0][0] for text in rankzero.read_run(run_dir).texts["diary"]]


def test_without_a_name_importers_are_listed(command):
    status, out, _ = command()
    assert status == 0
    assert ["diary", "diaries,", "one", "line", "a", "day"] in [line.split() for line in out.splitlines()]


def test_importers_are_listed_as_json(command):
    assert {"name": "diary", "reads": "diaries, one line a day"} in json.loads(command("--json")[1])
    assert command("diary", "diary.txt", "--json", "--to", "csv")[0] == 2


def test_help_has_an_example_and_lists_importers(command):
    status, out, _ = command("--help")
    assert status == 0
    assert "Example: rankzero import" in out
    assert "Installed importers:" in out
    assert "diary" in out.partition("Installed importers:")[2]


def test_importing_a_run_again_changes_nothing(command):
    status, out, err = command("diary", "diary.txt")
    assert (status, days()) == (0, ["sunny", "rainy"])
    assert out.startswith("diary of 2000: imported: 2 values, 0 files; it is in ")
    assert err == "the project of 1 run is unknown: using 'diary'; set another with --project\n"
    status, out, _ = command("diary", "diary.txt")
    assert (status, days()) == (0, ["sunny", "rainy"])
    assert "already imported, nothing is new" in out


def test_new_data_is_imported(command):
    command("diary", "diary.txt")
    Path("diary.txt").write_text("sunny\nrainy\nfoggy\n")
    status, out, _ = command("diary", "diary.txt")
    assert (status, days()) == (0, ["sunny", "rainy", "foggy"])
    assert "imported what is new: 1 value, 0 files" in out


def test_a_plugin_without_an_importer(command, monkeypatch):
    monkeypatch.setattr(get_plugins(), "available", lambda: {"pigeon": "rankzero-pigeon"})
    status, _, err = command("pigeon", "x")
    assert (status, "There is no importer 'pigeon'. The plugin 'pigeon' has no importer." in err) == (2, True)


def test_data_that_is_left_out_is_named(command):
    Path("diary.txt").write_text("sunny\nsecret\n")
    status, _, err = command("diary", "diary.txt")
    assert (status, days()) == (1, ["sunny"])
    assert "diary of 2000: left out: day 2: it is private\n" in err


def test_a_source_that_changed_is_refused(command):
    command("diary", "diary.txt")
    Path("diary.txt").write_text("cloudy\n")
    status, _, err = command("diary", "diary.txt")
    assert (status, days()) == (1, ["sunny", "rainy"])
    assert "was not changed. Import into another directory with --dir" in err
    assert command("diary", "diary.txt", "--dir", "elsewhere")[0] == 0


def test_project_and_option(command):
    status, out, err = command("diary", "diary.txt", "--project", "team/old", "-o", "year=1999")
    assert (status, days("team/old"), err) == (0, ["sunny", "rainy"], "")
    assert out.startswith("diary of 1999")


def test_a_run_that_cannot_be_read_does_not_stop_the_others(command):
    class Both(BrokenImporter):
        def find(self, paths):
            from rankzero_diary.importing import Diary

            return [Broken(), Diary(Path("diary.txt"), 2000)]

    offer({"both": Both}, "both-hooks")
    status, _, err = command("both", "x")
    assert (status, days("both")) == (1, ["sunny", "rainy"])
    assert "broken.txt: not imported: ValueError: page 2 is missing\n" in err
    status, out, _ = command("both", "x", "--json", "--dir", "others")
    broken, found = json.loads(out)
    assert status == 1
    assert broken == {"source": "broken.txt", "outcome": None, "problem": "ValueError: page 2 is missing"}
    assert rankzero.read_run(found.pop("dir")).info.id == found.pop("id")
    assert found == {
        "source": "diary.txt", "outcome": "imported", "problem": None, "name": "diary of 2000", "project": "both",
        "values": 2, "files": 0, "left_out": [],
    }  # fmt: skip
    assert not list(Path("rankzero-runs/team/old").rglob("journal.*"))


def test_runs_can_be_listed_shown_and_delivered(command, capsys):
    command("diary", "diary.txt")
    for arguments in (["ls"], ["show", "diary of 2000"], ["export", "diary of 2000"]):
        assert cli.main(arguments) == 0
    assert cli.main(["sync", "diary of 2000", "--to", "csv"]) == 0
    assert "delivered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["dairy", "x"], 2, "There is no importer 'dairy'. Did you mean 'diary'? Installed: "),
        (["diary"], 2, "name the files or directories to read: rankzero import diary SOURCE"),
        (["diary", "no.txt"], 2, "there is no diary no.txt"),
        (["diary", "diary.txt", "-o", "yaer=1"], 2, "has no option 'yaer'. Did you mean 'year'? Its options: year."),
        (["diary", "diary.txt", "--project", "../x"], 2, "--project '../x' cannot be used as the name of a directory"),
    ],
)
def test_wrong_usage(command, arguments, status, says):
    got, _, err = command(*arguments)
    assert (got, err.count("\n")) == (status, 1)
    assert says in err


def test_an_option_that_is_true_or_false_gets_no_other_value(command):
    class Choosy(Importer):
        def __init__(self, strict: bool = False):
            pass

        find = BrokenImporter.find

    offer({"choosy": Choosy}, "choosy-hooks")
    assert command("choosy", "x", "-o", "strict=true", "--dry-run")[0] == 1
    status, _, err = command("choosy", "x", "-o", "strict=1")
    assert (status, "The option 'strict' of the importer 'choosy' is true or false, not 1" in err) == (2, True)


def test_an_importer_that_can_be_installed(command, monkeypatch):
    monkeypatch.setattr(
        "rankzero.importers.registry.known_loggers", lambda: {"abacus": 'pip install "rankzero[abacus]"'}
    )
    status, _, err = command("abacus", "x")
    assert status == 1
    assert "The importer 'abacus' is not installed. Run: pip install \"rankzero[abacus]\"" in err


def test_two_plugins_that_offer_one_name_are_both_named(command):
    offer({"diary": BrokenImporter}, "other-hooks")
    status, _, err = command("diary", "diary.txt")
    assert status == 1
    assert "Several plugins provide the importer 'diary': 'diary-hooks' and 'other-hooks'" in err
    assert command()[0] == 0


def test_a_hook_that_returns_something_else_is_named(command):
    offer([BrokenImporter], "listing-hooks")
    status, _, err = command()
    assert status == 2
    assert "'listing-hooks' must return a mapping" in err


def test_no_path_found_is_wrong_usage(command):
    class Nothing(BrokenImporter):
        def find(self, paths):
            raise RunNotFoundError("there is nothing of an abacus here")

    offer({"abacus": Nothing}, "abacus-hooks")
    assert command("abacus", "x")[0] == 2


def test_progress_is_shown_on_a_terminal_only(command, monkeypatch):
    shown = io.StringIO()

    def console(*, stderr=False):
        return Console(file=shown, force_terminal=stderr, width=80)

    assert "━" not in "".join(command("diary", "diary.txt")[1:])
    monkeypatch.setattr(terminal, "console", console)
    _, out, _ = command("diary", "diary.txt", "--dir", "elsewhere")
    assert "diary.txt" in shown.getvalue()
    assert "━" in shown.getvalue()
    assert out.startswith("diary of 2000: imported")


def test_a_long_name_leaves_room_for_the_bar(command, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(
        terminal, "console", lambda *, stderr=False: Console(file=shown, force_terminal=stderr, width=80)
    )
    long = Path("a directory whose name alone is wider than many terminals are, by its hash 0123456789abcdef")
    long.mkdir()
    (long / "run_operations_of_a_long_name.txt").write_text("sunny\n")
    assert command("diary", long / "run_operations_of_a_long_name.txt")[0] == 0
    assert shown.getvalue().count("━") >= 10
    assert "run_operations_of_a_lon…" in shown.getvalue()


def test_the_result_of_a_run_is_printed_before_the_next_is_read(command, capsys):
    said = []

    class Late(Broken):
        def header(self):
            said.append(capsys.readouterr().out)
            raise SkipRun("it was synced")

    class Both(BrokenImporter):
        def find(self, paths):
            from rankzero_diary.importing import Diary

            return [Diary(Path("diary.txt"), 2000), Late()]

    offer({"both": Both}, "both-hooks")
    status, out, err = command("both", "x", "--project", "days")
    assert said[0].startswith("diary of 2000: imported: 2 values")
    assert (status, out, err) == (0, "broken.txt: skipped: it was synced\n", "")


def test_another_project_does_not_create_a_second_run(command):
    command("diary", "diary.txt", "--project", "one")
    status, out, err = command("diary", "diary.txt", "--project", "two")
    (run_dir,) = Path("rankzero-runs/one").resolve().iterdir()
    assert (status, out, Path("rankzero-runs/two").exists()) == (1, "", False)
    assert err.startswith(f"diary.txt: not imported: the run exists in another project, in {run_dir},")


def test_equal_ids_are_distinguished_by_path(command, capsys):
    command("diary", "diary.txt", "--project", "one")
    command("diary", "diary.txt", "--project", "two", "--dir", "rankzero-runs/more")
    (one,), (two,) = Path("rankzero-runs/one").iterdir(), Path("rankzero-runs/more/two").iterdir()
    assert cli.main(["show", one.name]) != 0
    err = capsys.readouterr().err
    assert f"{one}" in err
    assert f"{two}" in err
    assert "Give the path of one of them." in err


def test_control_characters_in_a_name_are_escaped(command, monkeypatch):
    class Odd(BrokenImporter):
        def find(self, paths):
            from rankzero_diary.importing import Diary

            return [Diary(Path("diary.txt"), "a\nb\x1b[2J ü")]

    offer({"odd": Odd}, "odd-hooks")
    _, out, _ = command("odd", "x")
    assert out.startswith("diary of a\\nb\\x1b[2J ü: imported")
    assert out.count("\n") == 1


def test_a_run_that_another_process_imports_is_refused(command):
    command("diary", "diary.txt")
    (run_dir,) = Path("rankzero-runs/diary").iterdir()
    lock = WriterLock(run_dir)
    try:
        status, _, err = command("diary", "diary.txt", "--project", "diary")
    finally:
        lock.release()
    assert status == 1
    assert err.endswith("is being imported or written by another process; wait for it to end and import again\n")


def test_a_dry_run_only_prints_the_result(command):
    status, out, err = command("diary", "diary.txt", "--project", "p", "--dry-run")
    assert (status, err) == (0, "")
    assert out.startswith("diary of 2000: would be imported: 2 values, 0 files; into ")
    assert not Path("rankzero-runs").exists()
    command("diary", "diary.txt", "--project", "p")
    Path("diary.txt").write_text("sunny\nrainy\nfoggy\n")
    _, out, _ = command("diary", "diary.txt", "--project", "p", "--dry-run")
    assert "would be imported what is new: 1 value, 0 files" in out
    assert days("p") == ["sunny", "rainy"]


def test_imported_runs_are_delivered_at_once(command):
    status, out, _ = command("diary", "diary.txt", "--project", "p", "--to", "csv")
    assert status == 0
    assert "diary of 2000 → csv: delivered, 4 events\n" in out
    (run_dir,) = Path("rankzero-runs/p").iterdir()
    assert (run_dir / "files.csv").exists()


@pytest.mark.parametrize("more", [(), ("--follow",)])
def test_a_wrong_logger_is_named_before_anything_is_imported(command, more):
    status, out, err = command("diary", "diary.txt", "--project", "p", "--to", "csvv", *more)
    assert (status, out) == (2, "")
    assert "'csvv'" in err
    assert not Path("rankzero-runs").exists()


FOLLOWING = """
import sys
from types import SimpleNamespace
from rankzero.cli import import_
from rankzero.cli.app import main
from rankzero.plugins import hookspecs
from rankzero.plugins.registry import get_plugins
from rankzero_diary.importing import DiaryImporter

import_._IDLE = float(sys.argv[1])
hook = hookspecs.hookimpl(lambda: {"diary": DiaryImporter})
get_plugins().manager.register(SimpleNamespace(rankzero_importers=hook), "diary-hooks")
sys.exit(main(["import", "diary", "diary.txt", "--project", "p", "--follow", "--to", "csv"]))
"""


@pytest.fixture
def follow():
    """Return a function that follows the diary in a process, for ``idle`` seconds without new data."""
    started = []

    def follow(idle):
        started.append(subprocess.Popen([sys.executable, "-c", FOLLOWING, str(idle)], text=True, stderr=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SOURCE)}))  # fmt: skip
        return started[-1]

    yield follow
    for process in started:
        process.kill()
        process.communicate()


def delivered():
    """Return how many texts CSV has, and how often the run has ended."""
    journals = list(Path("rankzero-runs/p").glob("*/journal.jsonl"))
    if not journals:
        return 0, 0
    return len(list(journals[0].parent.glob("tables/*"))), journals[0].read_text().count('"type":"finish"')


def write(*lines):
    Path("diary.txt").write_text("".join(f"{line}\n" for line in lines))


def end(process):
    process.terminate()
    out, err = process.communicate(timeout=A_WHILE)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


def test_a_source_is_followed_until_a_signal(follow):
    process = follow(1e12)
    until(lambda: delivered()[0] == 2)
    write("sunny", "rainy", "foggy")
    until(lambda: delivered() == (3, 0))
    out, err = end(process)
    assert out.startswith("diary of 2000: imported: 2 values, 0 files; it is in ")
    assert "watching diary in diary.txt; end with Ctrl-C" in err
    assert "→ csv is delivered: 5 events" in err
    assert (delivered(), days("p")) == ((3, 1), ["sunny", "rainy", "foggy"])
    (run_dir,) = Path("rankzero-runs/p").iterdir()
    assert rankzero.read_run(run_dir).status == "success"


def test_a_run_without_new_data_ends_and_is_continued(follow):
    process = follow(0.0)
    until(lambda: delivered() == (2, 1))
    write("sunny", "rainy", "foggy")
    until(lambda: delivered() == (3, 2))
    end(process)
    assert (delivered(), days("p")) == ((3, 2), ["sunny", "rainy", "foggy"])


def test_a_source_can_be_followed_before_it_exists(follow):
    Path("diary.txt").unlink()
    process = follow(1e12)
    assert process.stderr.readline().startswith("waiting: ")
    write("sunny", "rainy")
    until(lambda: delivered()[0] == 2)
    end(process)


def test_a_problem_of_a_followed_source_is_printed_once(follow):
    process = follow(1e12)
    until(lambda: delivered()[0] == 2)
    Path("diary.txt").unlink()
    for line in process.stderr:
        if "there is no diary" in line:
            break
    write("sunny", "rainy", "foggy")
    until(lambda: delivered()[0] == 3)
    assert "there is no diary" not in end(process)[1]
