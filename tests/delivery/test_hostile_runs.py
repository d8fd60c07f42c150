"""A run's directory of another user cannot damage files, secrets, other runs or the terminal.

Each row of `HOSTILE` prepares one. It is then shown, listed, exported, cleaned and delivered as a user would. Nothing
outside of it may change, and nothing that is only the user's may reach a logger.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from waiting import A_WHILE

import rankzero
from rankzero.capture.environment import read_environment
from rankzero.cli import app as cli
from rankzero.cli.deliver import Watch
from rankzero.cli.sync import progress_bars
from rankzero.delivery.courier import Courier
from rankzero.delivery.destinations import choose_loggers
from rankzero.errors import ConfigError, UntrustedRunError
from rankzero.events.run_info import RunInfo
from rankzero.events.seals import is_sealed, seal
from rankzero.events.structs import (
    Artifact,
    Checkpoint,
    Figure,
    Finish,
    Graph,
    Image,
    Metrics,
    Params,
    Start,
    Table,
    Tags,
)
from rankzero.files.writing import state_directory
from rankzero.loggers.base import Logger
from rankzero.media.store import MediaFile
from rankzero.rundir.finding import find_runs
from rankzero.rundir.layout import CURVES, MEDIA, SUMMARY
from rankzero.rundir.positions import Position, load_position

CANARY = "s3cret-of-the-user"
RUN = {"id": "r", "name": "n", "project": "p", "dir": ""}
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The user's directory: private files, and secrets in the environment."""
    home = tmp_path / "home"
    (home / "work").mkdir(parents=True)
    (home / ".bashrc").write_text("# mine\n")
    (home / "key").write_text(CANARY)
    (home / "folder").mkdir()
    (home / "folder" / "key").write_text(CANARY)
    monkeypatch.chdir(home / "work")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CANARY", CANARY)
    return home


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "received" / "p" / "r"
    path.mkdir(parents=True)
    return path


def start(loggers=None, **info):
    return Start(
        1.0, RunInfo(**{"id": "r", "name": "n", "project": "p", "dir": "/x", "started": 1.0, **info}), loggers or {}
    )


def write(run_dir, *events):
    """Write unchanged lines, without rankzero's checks."""
    with open(run_dir / "journal.jsonl", "ab") as file:
        for event in events:
            if isinstance(event, dict):
                line = json.dumps(event).encode()
            else:
                line = event if isinstance(event, bytes) else msgspec.json.encode(event)
            file.write(line.rstrip(b"\n") + b"\n")


class Grabber(Logger):
    """Reads every file that it gets, and all files in directories, as an SDK does."""

    def __init__(self):
        self.seen = []

    name = property(lambda self: "grabber")
    version = property(lambda self: "1")

    def _grab(self, *what):
        for each in what:
            if isinstance(each, list | tuple):
                self._grab(*each)
            elif isinstance(each, str | os.PathLike) and os.path.isdir(each):
                self._grab(*(Path(parent, name) for parent, _, names in os.walk(each) for name in names))
            elif isinstance(each, str | os.PathLike) and os.path.isfile(each):
                self.seen.append(Path(each).read_text(errors="replace"))

    def log_metrics(self, metrics, step=None):
        self.seen.append(repr(metrics))

    def log_hyperparams(self, params, *args, **kwargs):
        self.seen.append(repr(params))

    def log_tags(self, tags):
        self.seen.append(repr(tags))

    def log_image(self, key, images, step=None, caption=None, **extra):
        self._grab(images)

    def log_figure(self, key, figure, step=None, **extra):
        self._grab(figure)

    def log_table(self, key, columns=None, data=None, dataframe=None, step=None):
        self._grab(*data)

    def log_graph(self, model, input_array=None):
        self._grab(model)

    def log_artifact(self, path, name=None, type=None, aliases=(), metadata=None):
        self._grab(path)

    def log_checkpoint(self, path, score=None, step=None, aliases=(), metadata=None):
        self._grab(path)


def snapshot_of(directory, *, without):
    """Return the links and contents of a directory, except one directory below it."""
    found = {}
    for parent, folders, names in os.walk(directory):
        folders[:] = [each for each in folders if Path(parent, each) != without]
        for name in (*folders, *names):
            path = Path(parent, name)
            found[str(path)] = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    return found


def table(run_dir, cell):
    path = run_dir / MEDIA / "ab" / "t.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"columns": ["c"], "data": [[{"media": {"path": cell}}]]}))
    return Table(1.0, "t", MediaFile(f"{MEDIA}/ab/t.json"))


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def named(make):
    """Return rows for an event that names a file: by an absolute path, by one with .., and through links."""

    def through_a_link(run_dir, home):
        link(run_dir / MEDIA / "a.png", home / "key")
        write(run_dir, make(f"{MEDIA}/a.png"))

    return {
        "absolute": lambda run_dir, home: write(run_dir, make(str(home / "key"))),
        "upward": lambda run_dir, home: write(run_dir, make(os.path.relpath(home / "key", run_dir))),
        "upward from inside": lambda run_dir, home: write(run_dir, make("media/../../../../home/key")),
        "a link": through_a_link,
    }


def in_a_directory(run_dir, home):
    link(run_dir / "checkpoints" / "0" / "folder" / "deep" / "key", home / "key")
    write(run_dir, Artifact(1.0, "checkpoints/0/folder", "a"))


def linked_directory(run_dir, home):
    link(run_dir / "checkpoints" / "0" / "folder", home / "folder")
    write(run_dir, Artifact(1.0, "checkpoints/0/folder", "a"))


def waiting(run_dir, home):
    (run_dir / "checkpoints" / "0").mkdir(parents=True)
    os.mkfifo(run_dir / "checkpoints" / "0" / "pipe")
    write(run_dir, Artifact(1.0, "checkpoints/0", "a"), Image(1.0, "k", [MediaFile("checkpoints/0/pipe")]))


def deleting(path):
    return lambda run_dir, home: write(run_dir, Checkpoint(1.0, path(run_dir, home), "/nonexistent"))


def planted(name, target=".bashrc"):
    return lambda run_dir, home: link(run_dir / name, home / target)


def raw(**event):
    return lambda run_dir, home: write(run_dir, {"time": 1.0, **event})


def nested(depth=900):
    value = "x"
    for _ in range(depth):
        value = {"a": value}
    return value


HOSTILE = {
    **{f"image, {how}": row for how, row in named(lambda path: Image(1.0, "k", [MediaFile(path)])).items()},
    **{f"artifact, {how}": row for how, row in named(lambda path: Artifact(1.0, path, "a")).items()},
    **{f"checkpoint, {how}": row for how, row in named(lambda path: Checkpoint(1.0, path)).items()},
    "figure": lambda run_dir, home: write(run_dir, Figure(1.0, "f", MediaFile(str(home / "key")))),
    "graph": lambda run_dir, home: write(run_dir, Graph(1.0, MediaFile(str(home / "key")))),
    "table": lambda run_dir, home: write(run_dir, Table(1.0, "t", MediaFile(str(home / "key")))),
    "a table's cell": lambda run_dir, home: write(run_dir, table(run_dir, str(home / "key"))),
    "a checkpoint's source": lambda run_dir, home: write(run_dir, Checkpoint(2e11, "checkpoints/0/a", f"{home}/key")),
    "a link in an artifact": in_a_directory,
    "an artifact that is a link": linked_directory,
    "pipes": waiting,
    **{
        f"deletes {name}": deleting(path)
        for name, path in {
            "an absolute path": lambda run_dir, home: str(home / "folder" / "key"),
            "upward": lambda run_dir, home: os.path.relpath(home / "folder" / "key", run_dir),
            "the runs": lambda run_dir, home: "",
            "the run": lambda run_dir, home: "journal.jsonl",
            "all checkpoints": lambda run_dir, home: "checkpoints/w",
        }.items()
    },
    "deletes through a link": lambda run_dir, home: (
        link(run_dir / "checkpoints", home),
        write(run_dir, Checkpoint(1.0, "checkpoints/folder/key", "/nonexistent")),
    ),
    **{
        f"{name} is a link": planted(name)
        for name in (
            "metrics.csv", ".metrics.csv.delivered", "files.csv", "hparams.yaml", ".rankzero.part", "csv.position.json",
            "csv.position.part", "csv.rejected.jsonl", "csv.courier.lock", "csv.wake", "writer.lock", "courier.log",
            SUMMARY, CURVES,
        )
    },
    "images/ is a link": lambda run_dir, home: (
        link(run_dir / "images", home / "folder"),
        (run_dir / MEDIA).mkdir(),
        (run_dir / MEDIA / "a.png").write_text("picture"),
        write(run_dir, Image(1.0, "k", [MediaFile(f"{MEDIA}/a.png")], 1)),
    ),
    **{
        f"a key: {name}": lambda run_dir, home, key=key: write(run_dir, start({key: {"plugin": "csv", "options": {}}}))
        for name, key in {"upward": "../../x", "absolute": "/x", "long": "k" * 300, "NUL": "a\0b"}.items()
    },
    "an id upward": lambda run_dir, home: write(run_dir, start({"csv": {"plugin": "csv"}}, id="../../../home/x")),
    "a project upward": lambda run_dir, home: write(run_dir, start({"csv": {"plugin": "csv"}}, project="../../home")),
    "options: null": raw(type="start", run=RUN, loggers={"csv": {"plugin": "csv", "options": None}}),
    "options: [1]": raw(type="start", run=RUN, loggers={"csv": {"plugin": "csv", "options": [1]}}),
    "plugin: 5": raw(type="start", run=RUN, loggers={"csv": {"plugin": 5}}),
    "left_out: 5": raw(type="start", run=RUN, loggers={"csv": {"plugin": "csv", "left_out": 5}}),
    "started at 1e300": raw(type="start", run={**RUN, "started": 1e300}),
    "a time of 1e300": raw(type="metrics", time=1e300, step=1, values={"a": 1.0}),
    "nesting of 900": raw(type="params", values={"a": nested()}),
    "metadata nested 900 deep": raw(type="checkpoint", path="checkpoints/0/a", metadata={"a": nested()}),
    "a step beyond 64 bits": raw(type="metrics", step=10**30, values={"a": 1.0}),
    "huge values": lambda run_dir, home: write(run_dir, *(Metrics(1.0, 1, {"a": a}) for a in (1.7e308, -1.7e308))),
    "markup and escapes": lambda run_dir, home: write(
        run_dir,
        start({"csv": {"plugin": "csv", "options": {}}}, name=ESCAPE + "[/x]", notes=ESCAPE, tags=(ESCAPE,)),
        Tags(1.0, [ESCAPE + "[/x]"]), Params(1.0, {ESCAPE: ESCAPE}), Metrics(1.0, 1, {ESCAPE + "[/x]": 1.0}),
    ),
}  # fmt: skip


def blocks_of(page):
    """Yield the embedded data of a page."""
    for block in re.findall(r">([A-Za-z0-9+/=]+)</script>", page.read_text()):
        yield (data := base64.b64decode(block))
        with suppress(zlib.error):
            yield zlib.decompress(data, -zlib.MAX_WBITS)


def run_command(capsys, *arguments):
    status = cli.main([str(each) for each in arguments])
    out, err = capsys.readouterr()
    assert "internal error" not in err, err
    assert not set(out + err) & set("\x1b\x07\u202e"), (out, err)
    return status, out, err


@pytest.mark.parametrize("name", HOSTILE)
def test_a_received_run_does_no_harm(name, run_dir, home, capsys, swallowed_warnings):
    write(run_dir, start({"csv": {"plugin": "csv", "options": {}}}))
    HOSTILE[name](run_dir, home)
    write(run_dir, Metrics(3.0, 3, {"kept": 3.0}), Finish(4.0, "success"))
    neighbour = run_dir.parent / "neighbour"
    neighbour.mkdir()
    write(neighbour, start({"csv": {"plugin": "csv", "options": {}}}, id="neighbour"), Finish(2.0, "success"))
    root = run_dir.parents[2]
    before = snapshot_of(root, without=run_dir)

    def check(*ours):
        after = snapshot_of(root, without=run_dir)
        index = {str(neighbour / name) for name in (SUMMARY, CURVES)}  # which ls makes
        assert {path: content for path, content in after.items() if path not in index.union(ours)} == before

    run_command(capsys, "show", run_dir)
    run_command(capsys, "show", run_dir, "--json")
    assert not list(run_dir.glob("*.lock")) or "lock" in name  # looking writes nothing
    run_command(capsys, "ls", run_dir.parents[1])
    exported = home / "work" / "x.parquet"
    run_command(capsys, "export", run_dir, "-o", exported)
    assert (run_dir / "journal.jsonl").exists()
    page = home / "work" / "x.html"
    run_command(capsys, "page", run_dir, neighbour, "-o", page)
    assert CANARY.encode() not in b"".join(blocks_of(page))
    run_command(capsys, "compare", run_dir, neighbour)
    check(str(exported), str(page))
    page.unlink(missing_ok=True)
    exported.unlink(missing_ok=True)
    grabber = Grabber()
    Courier(run_dir, "grabber", lambda: grabber, follow=False, is_own=False, grace_period=0.0).run()
    assert CANARY not in repr(grabber.seen)
    assert "kept" in repr(grabber.seen)  # what is behind it arrives
    run_command(capsys, "sync", run_dir, "--to", "csv", "--timeout", 0)
    run_command(capsys, "clean", run_dir, "--older-than", "0d", "--media", "--checkpoints", "--rejected", "--yes")
    check()
    run_command(capsys, "deliver", neighbour.parent / "neighbour")
    assert (neighbour / "csv.position.json").exists()
    assert not any(CANARY in path.read_text() for path in run_dir.rglob("*.csv") if not path.is_symlink())
    swallowed_warnings.clear()  # of what CSV cannot hold


def test_a_received_position_gives_no_access_to_files_and_counts_as_undelivered(run_dir, home, capsys):
    key = home / "key"
    os.utime(key, (0.5, 0.5))
    write(run_dir, start({"csv": {"plugin": "csv"}}), Checkpoint(1.0, "checkpoints/0/a", str(key), automatic=True))
    forged = Position((run_dir / "journal.jsonl").stat().st_size, 2, closed=True, view="/home/of/the/sender")
    write(run_dir, Metrics(3.0, 3, {"kept": 3.0}), Finish(4.0, "success"))
    for place in ("/where/the/sender/has/it", str(run_dir.resolve())):
        forged.place = place
        for name in ("csv", "grabber"):
            (run_dir / f"{name}.position.json").write_bytes(msgspec.json.encode(forged))
        is_believed = place == str(run_dir.resolve())  # then it still hands over no file
        grabber = Grabber()
        grabber.log_model = True
        assert ("/home/of" in run_command(capsys, "show", run_dir)[1]) == is_believed
        Courier(run_dir, "grabber", lambda: grabber, follow=False, is_own=False, grace_period=0.0).run()  # noqa: B023
        assert CANARY not in repr(grabber.seen)
        assert "kept" in repr(grabber.seen)
    (run_dir / "csv.position.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(forged, place="/x")))
    assert "had all" not in run_command(capsys, "sync", run_dir, "--to", "csv")[1]
    assert "kept" in next(run_dir.rglob("metrics.csv")).read_text()


def test_the_position_of_a_run_that_its_owner_moved_counts(tmp_path):
    with rankzero.start("csv", dir=tmp_path / "runs") as run:
        run.log_metrics({"a": 1.0})
    moved = run.dir.rename(tmp_path / "moved")
    assert load_position(moved, "csv").closed


# The destination


ELSEWHERE = {"tracking_uri": "http://elsewhere/${CANARY}"}
PLACES = {
    "a URL": {"tracking_uri": "http://elsewhere"},
    "a directory": {"save_dir": "/home/you"},
    "an environment variable": {"note": "${CANARY}"},
    "settings": {"settings": {"x": 1}},
    "a name upward": {"name": "../../x"},
    "a host": {"host": "elsewhere"},
    "a file URL": {"artifact_location": "file:/home/me/.config/autostart"},
    "a path in Windows": {"store": "C:x"},
    "a path below": {"store": "a/b"},
    "a path in a list": {"stores": ["a", "~you"]},
    "a secret": {"api_key": "${CANARY}"},
}


def received(run_dir, options):
    write(run_dir, start({"csv": {"plugin": "csv", "options": options}}))
    write(run_dir, Metrics(3.0, 3, {"a": 3.0}), Finish(4.0, "success"))


@pytest.mark.parametrize("options", PLACES.values(), ids=PLACES)
def test_a_run_of_another_user_goes_nowhere_else_unless_the_user_agrees(run_dir, options):
    received(run_dir, options)
    with pytest.raises(UntrustedRunError, match="you did not start") as error:
        choose_loggers(run_dir, [], {})
    assert "--trust" in str(error.value)
    assert str(next(iter(options.values()))) in str(error.value)
    asked = []
    with pytest.raises(UntrustedRunError, match="did not agree"):
        choose_loggers(run_dir, [], {}, consent=asked.append)
    assert len(asked) == 1
    named = choose_loggers(run_dir, ["csv"], {})[0]
    assert named.options == {}
    assert (named.key == "csv") == ("api_key" in options)  # of another place another position is kept


def test_secrets_named_in_a_journal_are_used_only_for_secret_options(run_dir):
    received(run_dir, ELSEWHERE)
    with pytest.raises(ConfigError, match="names an environment variable"):
        choose_loggers(run_dir, [], {}, consent=lambda what: True)
    given = choose_loggers(run_dir, [], {"tracking_uri": "http://mine"}, consent=lambda what: True)
    assert given[0].options == {"tracking_uri": "http://mine"}


def test_an_option_that_names_no_destination_needs_no_consent(run_dir):
    harmless = {"log_model": True, "tags": ["a b", "v1.0"], "rate": 0.5}
    received(run_dir, {"prefix": "a", "flush_logs_every_n_steps": 5, "version": None, **harmless})
    assert choose_loggers(run_dir, [], {})[0].options["prefix"] == "a"


def test_a_destination_in_the_users_own_configuration_needs_no_consent(run_dir):
    Path("rankzero.toml").write_text('[loggers.csv]\nsave_dir = "/mine"\n')
    received(run_dir, {"save_dir": "/mine"})
    assert choose_loggers(run_dir, [], {})[0].options == {"save_dir": "/mine"}


def test_an_own_run_needs_no_consent_unless_it_was_changed(run_dir, tmp_path, monkeypatch):
    with rankzero.start("csv", save_dir=str(tmp_path / "out"), delivery="off", dir="runs") as run:
        run.log_metrics({"a": 1.0})
    assert choose_loggers(run.dir, [], {})[0].options["save_dir"] == str(tmp_path / "out")
    journal = run.dir / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"/out", b"/bad"))
    with pytest.raises(UntrustedRunError):
        choose_loggers(run.dir, [], {})
    journal.write_bytes(journal.read_bytes().replace(b"/bad", b"/out"))
    replayed = run_dir.parent / "replayed"
    shutil.copytree(run.dir, replayed)
    with pytest.raises(UntrustedRunError):
        choose_loggers(replayed, [], {})
    (tmp_path / "mounted").symlink_to(run.dir.parent)
    assert choose_loggers(tmp_path / "mounted" / run.dir.name, [], {})
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of somebody else"))
    with pytest.raises(UntrustedRunError):
        choose_loggers(run.dir, [], {})


def test_training_starts_without_a_writable_home(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with rankzero.start("csv", delivery="off", dir="runs") as run:
        pass
    assert b'"seal"' not in (run.dir / "journal.jsonl").read_bytes()
    assert "cannot be marked as yours" in caplog.text


def test_the_key_is_made_once_and_only_the_user_can_read_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with ThreadPoolExecutor(4) as pool:
        seals = set(pool.map(lambda _: seal(*SEALED), range(16)))
    assert len(seals) == 1
    assert is_sealed(*SEALED, seals.pop())
    assert (tmp_path / "state" / "rankzero" / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "state" / "rankzero").iterdir()] == ["key"]


SEALED = ("r", "/runs/r", {"csv": {}})


@pytest.mark.parametrize("content", [None, b"", b"short", b"l" * 33], ids=repr)
def test_a_broken_key_is_replaced_and_needs_no_hard_links(tmp_path, monkeypatch, content):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "link", lambda *_, **__: os.stat("/nonexistent"))
    if content is not None:
        (tmp_path / "rankzero").mkdir()
        (tmp_path / "rankzero" / "key").write_bytes(content)
    assert is_sealed(*SEALED, seal(*SEALED))
    assert [path.name for path in (tmp_path / "rankzero").iterdir()] == ["key"]


def test_a_key_of_somebody_else_counts_only_for_root_in_that_users_home(home, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    made = seal(*SEALED)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert (seal(*SEALED), is_sealed(*SEALED, made)) == ("", False)
    for path in (home, state_directory() / "key"):
        try:
            os.chown(path, 4711, -1)
        except PermissionError:
            pytest.skip("only root can give files away")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert is_sealed(*SEALED, made)


def test_where_blake2_is_forbidden_nothing_is_sealed(monkeypatch):
    made = seal(*SEALED)

    def forbidden(*_, **__):
        raise ValueError("disabled for FIPS")

    monkeypatch.setitem(sys.modules, "_blake2", SimpleNamespace(blake2b=forbidden))
    assert (seal(*SEALED), is_sealed(*SEALED, made)) == ("", False)


def test_sync_refuses_then_trusts(run_dir, tmp_path, capsys):
    out = tmp_path / "out"
    received(run_dir, {"save_dir": str(out)})
    status, _, err = run_command(capsys, "sync", run_dir)
    assert (status, out.exists()) == (1, False)
    assert f"save_dir='{out}'" in err
    assert run_command(capsys, "sync", run_dir, "--trust")[0] == 0
    assert out.exists()


def test_deliver_skips_runs_that_need_consent_and_delivers_the_rest(run_dir, tmp_path, capsys):
    received(run_dir, {"save_dir": str(tmp_path / "out")})
    neighbour = run_dir.with_name("neighbour")
    neighbour.mkdir()
    write(neighbour, start({"csv": {"plugin": "csv"}}, id="neighbour"), Finish(2.0, "success"))
    status, _, err = run_command(capsys, "deliver", run_dir.parent)
    assert (status, (tmp_path / "out").exists()) == (1, False)
    assert "--trust" in err
    assert load_position(neighbour, "csv").closed


def test_watching_warns_once_of_a_run_that_needs_consent(run_dir, tmp_path, caplog):
    received(run_dir, {"save_dir": str(tmp_path / "out")})
    watch = Watch("runs", lambda: find_runs(run_dir.parent), ())
    with progress_bars() as bars:
        watch._search(bars)
        watch._search(bars)
    assert len([record for record in caplog.records if "--trust" in record.getMessage()]) == 1
    assert not (tmp_path / "out").exists()


# The environment


def test_an_environment_names_only_files_of_the_run(run_dir, home):
    directory = run_dir / "surroundings" / "1"
    directory.mkdir(parents=True)
    (directory / "requirements.txt").write_text("x==1\n")
    link(directory / "code", home / "folder")
    said = {"pid": -1, "packages": "surroundings/1/requirements.txt", "code": "surroundings/1/code/key"}
    said["git"] = {"root": "/", "commit": "c", "diff": str(home / "key")}
    (directory / "surroundings.json").write_text(json.dumps(said))
    found = read_environment(run_dir)
    assert (found.packages, found.code, found.git.diff) == ("surroundings/1/requirements.txt", None, None)
    assert found.pid == 0


@pytest.mark.parametrize("name", ["logging", "msgspec", "filelock", "rankzero"])
def test_couriers_import_nothing_from_the_working_directory(tmp_path, home, name):
    (home / "work" / f"{name}.py").write_text("open('executed', 'w')")
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "train.py"
    script.write_text(
        "import rankzero\nwith rankzero.start('csv', dir='runs', capture_environment=True) as run: pass\n"
    )
    subprocess.run([sys.executable, script], check=True, capture_output=True, timeout=A_WHILE)
    (run_dir,) = (home / "work" / "runs" / "default").iterdir()
    assert load_position(run_dir, "csv").closed
    assert read_environment(run_dir, timeout=A_WHILE).is_complete
    assert not (home / "work" / "executed").exists()


def test_damaged_lines_of_a_received_run_are_reported(run_dir, capsys):
    write(run_dir, start({"csv": {"plugin": "csv"}}), {"type": "of-the-future", "time": 2.0}, Finish(4.0, "success"))
    for _ in range(2):  # also when all of it was there already
        status, _, err = run_command(capsys, "sync", run_dir)
        assert status == 1
        assert "1 line of the journal was left out, damaged or written by a newer version" in err


def test_a_terminal_that_is_not_utf_8(run_dir):
    write(
        run_dir, start({"csv": {"plugin": "csv"}}, name="损失✓"), Metrics(1.0, 1, {"损失": 1.0}), Finish(4.0, "success")
    )
    for arguments in (["ls", str(run_dir)], ["show", str(run_dir)], ["export", str(run_dir)]):
        command = [sys.executable, "-m", "rankzero.cli.app", *arguments]
        environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        done = subprocess.run(command, capture_output=True, env=environment, timeout=A_WHILE)
        assert done.returncode == 0, done.stderr
