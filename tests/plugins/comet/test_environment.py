"""Comet shows the environment of the training process, also after a late delivery on another machine.

For a live courier see `test_experiment`.
"""

import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from plugins.comet.journals import deliver
from plugins.comet.scripts import CometShell
from waiting import until

import rankzero
from rankzero.capture.environment import read_environment

TRAIN = """
    import os, sys
    print("before")
    run = rankzero.start("comet", project="p", delivery="off")
    run.log_metrics({"loss": 0.5}, 0)
    print("out 1", "and more")
    print("err 1", file=sys.stderr)
    for percent in (0, 50, 100):
        print(f"\\rbar {percent} %", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("zwei\\nZeilen \\u00fc \\u4e16")
    print("no end", end="")
    run.finish()
    print("\\nended", os.getpid())
"""
PRINTED = [
    ("out 1 and more", False), ("err 1", True), ("bar 100 %", True), ("zwei", False), ("Zeilen ü 世", False),
    ("no end", False),
]  # fmt: skip
SOMEBODY = {
    **{f"GIT_{who}_NAME": "Somebody" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "somebody@example.org" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}
REMOTE = "https://example.org/digits.git"


def make_repository(directory, environment):
    """Make a repository in which ``train.py`` is in a folder, with a change that is not committed."""
    shell = CometShell(directory / "repository" / "scripts", environment | SOMEBODY)
    git(shell, "init", "--quiet", "--initial-branch=trunk", "..")
    git(shell, "remote", "add", "origin", "https://me:s3cret@example.org/digits.git")
    shell.write("pass")
    git(shell, "add", "train.py")
    git(shell, "commit", "--quiet", "--message=begin")
    return shell


def git(shell, *arguments):
    return shell.run("git", *arguments).stdout


def only(server):
    (stored,) = server.store.experiments.values()
    return stored


def patches(stored):
    return [asset.content.decode() for asset in stored.assets if asset.type == "git-patch"]


class Trained(NamedTuple):
    """A run that was not delivered, and its environment."""

    run_dir: Path
    stdout: str
    script: Path
    code: str
    commit: str
    diff: str


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """Train in a repository, and change its code before the delivery."""
    shell = make_repository(tmp_path_factory.mktemp("trained"), {})
    commit = git(shell, "rev-parse", "HEAD").strip()
    ended = shell.train(TRAIN, "--lr", "1")
    until(lambda: (found := read_environment(shell.run_dir)) and found.is_complete)
    script = shell.directory / "train.py"
    trained = Trained(shell.run_dir, ended.stdout, script, script.read_text(), commit, git(shell, "diff", "HEAD"))
    git(shell, "commit", "--quiet", "--all", "--message=later")
    shell.write("pass")
    return trained


@pytest.fixture
def trained(trained_once, here, tmp_path):
    there = trained_once.run_dir
    return trained_once._replace(run_dir=shutil.copytree(there, tmp_path / "runs" / there.parent.name / there.name))


def test_the_training_process_is_shown(server, trained):
    deliver(trained.run_dir)
    stored = only(server)
    details = stored.system_details
    assert details["command"][-3:] == [str(trained.script), "--lr", "1"]
    assert (details["hostname"], details["pid"]) == (platform.node(), int(trained.stdout.split()[-1]))
    assert (details["executable"], details["pythonVersion"]) == (sys.executable, platform.python_version())
    assert details["user"] == psutil.Process().username()
    assert f"psutil=={psutil.__version__}" in details["installedPackages"]
    (code,) = stored.reports["code"]
    assert code["code"] == trained.code
    (path,) = stored.reports["file-path"]
    assert path["filePath"] == "train.py"
    (found,) = stored.reports["git/metadata"]
    assert (found["branch"], found["parent"], found["origin"]) == ("trunk", trained.commit, REMOTE)
    assert patches(stored) == [trained.diff]
    assert "s3cret" not in json.dumps([stored.reports, details]) + "".join(patches(stored))


def test_the_training_machine_is_shown(server, trained):
    (found,) = trained.run_dir.glob("surroundings/*/surroundings.json")
    found.write_text(json.dumps({**json.loads(found.read_text()), "host": "node17"}))
    deliver(trained.run_dir)
    assert only(server).system_details["hostname"] == "node17"


SHOWN = {"code", "git", "patch", "details", "host"}


@pytest.mark.parametrize(
    ("option", "hidden"),
    [
        ("log_code", {"code"}),
        ("log_git_metadata", {"git"}),
        ("log_git_patch", {"patch"}),
        ("log_env_details", {"details", "host"}),
        ("log_env_host", {"host"}),
    ],
)
@pytest.mark.parametrize("where", ["option", "variable"])
def test_excluded_details_are_not_sent(server, trained, option, hidden, where):
    variable = option.replace("log_", "COMET_AUTO_LOG_").upper()
    deliver(trained.run_dir, **({option: False} if where == "option" else {"environment": {variable: "false"}}))
    stored = only(server)
    sent = {
        "code": "code" in stored.reports,
        "git": "git/metadata" in stored.reports,
        "patch": bool(patches(stored)),
        "details": "command" in stored.system_details,
        "host": "hostname" in stored.system_details,
    }
    assert {name for name, is_sent in sent.items() if is_sent} == SHOWN - hidden


def test_a_run_that_was_copied_without_the_files_of_its_environment_is_delivered(server, trained):
    for path in trained.run_dir.glob("surroundings/**/*"):
        if path.is_file() and path.name != "surroundings.json":
            path.unlink()
    deliver(trained.run_dir)
    assert len(only(server).metrics) == 1
    assert only(server).system_details["hostname"] == platform.node()


# Console


def printed(stored):
    """Return the lines, and whether they are errors, without those of rankzero itself."""
    lines = [(text, line.stderr) for line in stored.output for text in line.text.splitlines()]
    return [line for line in lines if not line[0].startswith(("rankzero:", "INFO:rankzero"))]


def test_console_output_arrives_once_with_its_time(server, trained):
    deliver(trained.run_dir)
    assert "out 1 and more" in trained.stdout
    stored = only(server)
    assert printed(stored) == PRINTED
    assert all(stored.started <= line.time <= stored.ended for line in stored.output)


@pytest.mark.parametrize("where", ["option", "variable", "nowhere"])
def test_console_output_can_be_excluded(here, tmp_path, monkeypatch, where):
    if where == "variable":
        monkeypatch.setenv("COMET_AUTO_LOG_OUTPUT_LOGGER", "False")
    options = {"auto_output_logging": False} if where == "option" else {}
    with rankzero.start({"comet": options}, dir=tmp_path / "runs", delivery="off") as run:
        print("out 1")
    assert ("out 1" in (run.dir / "journal.jsonl").read_text()) is (where == "nowhere")
