"""What Comet shows of a process is that of the training process, whoever delivers it and when."""

import json
import os
import platform
import shutil
import sys

import psutil
import pytest
from plugins.comet.journals import deliver
from plugins.comet.scripts import CometShell
from waiting import until

from rankzero.capture.environment import read_environment

TRAIN = """
    with rankzero.start("comet", project="p"{}) as run:
        run.log_metrics({{"loss": 0.5}}, 0)
"""
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


@pytest.fixture
def repository(tmp_path, environment):
    return make_repository(tmp_path, environment)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    shell = make_repository(tmp_path_factory.mktemp("trained"), {})
    train_for_later(shell)
    return shell.run_dir


@pytest.fixture
def run_dir(trained, tmp_path):
    """The directory of a run that was not delivered, in a repository."""
    return shutil.copytree(trained, tmp_path / "runs" / trained.parent.name / trained.name)


def train_for_later(shell, options="", *arguments):
    """Train without anybody who delivers, and wait until the state of the code is known."""
    shell.train(TRAIN.format(options), *arguments, RANKZERO_DELIVERY="off")
    until(lambda: (found := read_environment(shell.run_dir)) and found.is_complete)


def test_the_process_that_trains(server, repository):
    commit = git(repository, "rev-parse", "HEAD").strip()
    ended = repository.train(TRAIN.format("") + "    print(os.getpid())".replace("os", "__import__('os')"), "--lr", "1")
    stored = only(server)
    details = stored.system_details
    script = str(repository.directory / "train.py")
    assert details["command"][-3:] == [script, "--lr", "1"]
    assert (details["hostname"], details["pid"]) == (platform.node(), int(ended.stdout))
    assert (details["executable"], details["pythonVersion"]) == (sys.executable, platform.python_version())
    assert details["user"] == psutil.Process().username()
    assert f"psutil=={psutil.__version__}" in details["installedPackages"]
    (code,) = stored.reports["code"]
    assert code["code"].encode() == (repository.directory / "train.py").read_bytes()
    (path,) = stored.reports["file-path"]
    assert path["filePath"] == "train.py"
    (found,) = stored.reports["git/metadata"]
    assert (found["branch"], found["parent"], found["origin"]) == ("trunk", commit, REMOTE)
    assert patches(stored) == [git(repository, "diff", "HEAD")]
    assert "s3cret" not in json.dumps([stored.reports, details]) + "".join(patches(stored))


def test_a_late_sync_shows_the_old_state(server, repository, tmp_path):
    commit = git(repository, "rev-parse", "HEAD").strip()
    train_for_later(repository)
    code, diff = (repository.directory / "train.py").read_text(), git(repository, "diff", "HEAD")
    (found,) = repository.run_dir.glob("surroundings/*/surroundings.json")
    found.write_text(json.dumps({**json.loads(found.read_text()), "host": "node17"}))
    git(repository, "commit", "--quiet", "--all", "--message=later")
    repository.write("pass")
    CometShell(tmp_path / "elsewhere", repository.environment).sync(repository.run_dir, "--to", "comet")
    stored = only(server)
    assert stored.reports["code"][0]["code"] == code
    assert stored.reports["git/metadata"][0]["parent"] == commit
    assert patches(stored) == [diff]
    assert stored.system_details["hostname"] == "node17"


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
def test_what_nobody_may_see_is_not_sent(server, run_dir, here, option, hidden, where):
    variable = option.replace("log_", "COMET_AUTO_LOG_").upper()
    deliver(run_dir, **({option: False} if where == "option" else {"environment": {variable: "false"}}))
    stored = only(server)
    sent = {
        "code": "code" in stored.reports,
        "git": "git/metadata" in stored.reports,
        "patch": bool(patches(stored)),
        "details": "command" in stored.system_details,
        "host": "hostname" in stored.system_details,
    }
    assert {name for name, is_sent in sent.items() if is_sent} == SHOWN - hidden


def test_a_run_that_was_copied_without_the_files_of_its_environment_is_delivered(server, run_dir, here):
    for path in run_dir.glob("surroundings/**/*"):
        if path.is_file() and path.name != "surroundings.json":
            path.unlink()
    deliver(run_dir)
    assert len(only(server).metrics) == 1
    assert only(server).system_details["hostname"] == platform.node()


# Console

PRINTS = """
    import sys
    print("before")
    run = rankzero.start("comet", project="p"{})
    print("out 1", "and more")
    print("err 1", file=sys.stderr)
    for percent in (0, 50, 100):
        print(f"\\rbar {{percent}} %", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("zwei\\nZeilen \\u00fc \\u4e16")
    print("no end", end="")
    run.finish()
    print("after")
"""
PRINTED = [("out 1 and more", False), ("err 1", True), ("bar 100 %", True), ("zwei", False), ("Zeilen ü 世", False)]


def printed(stored):
    """Return the lines, and whether they are errors, without those of rankzero itself."""
    lines = [(text, line.stderr) for line in stored.output for text in line.text.splitlines()]
    return [line for line in lines if not line[0].startswith(("rankzero:", "INFO:rankzero"))]


@pytest.mark.parametrize("delivery", ["process", "off"])
def test_what_is_printed_arrives_once_with_its_time(server, tmp_path, environment, delivery):
    shell = CometShell(tmp_path / "work", environment)
    ended = shell.train(PRINTS.format(""), RANKZERO_DELIVERY=delivery)
    if delivery == "off":
        shell.sync(shell.run_dir, "--to", "comet")
    assert "out 1 and more" in ended.stdout
    stored = only(server)
    assert printed(stored) == [*PRINTED, ("no end", False)]
    assert all(stored.started <= line.time <= stored.ended for line in stored.output)


@pytest.mark.parametrize(
    ("option", "variables"), [(", auto_output_logging=False", {}), ("", {"COMET_AUTO_LOG_OUTPUT_LOGGER": "False"})]
)
def test_what_is_printed_can_be_kept_back(server, tmp_path, environment, option, variables):
    shell = CometShell(tmp_path / "work", environment)
    shell.train(PRINTS.format(option), **variables)
    assert only(server).state == "finished"
    assert only(server).output == []
    assert "out 1" not in (shell.run_dir / "journal.jsonl").read_text()
