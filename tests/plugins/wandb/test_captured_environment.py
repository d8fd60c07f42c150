"""W&B shows the environment of the training process, also after a late delivery on another machine."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import datetime

import psutil
import pytest
from plugins.wandb.scripts import Shell
from plugins.wandb.user import User
from waiting import A_WHILE, until

from rankzero.capture.environment import Environment, read_environment
from rankzero.delivery.sync_job import deliver
from rankzero_wandb import WandbLogger
from rankzero_wandb.opening import client_settings

MEGABYTE = 1 << 20
MEASURED = """
    import os, subprocess, sys
    run = rankzero.start("wandb", project="p", system_metrics=0.2)
    run.log_metrics({"loss": 0.5}, 0)
    print(f"pid={os.getpid()}", flush=True)
    CHILD = "x = bytearray(SIZE << 20); print('ready', flush=True); input()".replace("SIZE", sys.argv[1])
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    sys.stdin.readline()
    child.communicate("\\n")
    run.finish()
"""


pytestmark = pytest.mark.usefixtures("capture_environment")

SOMEBODY = {
    **{f"GIT_{who}_NAME": "Somebody" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "somebody@example.org" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


def git(shell, *arguments):
    return shell.run("git", *arguments).stdout


def begin_repository(shell):
    """Create a repository with ``train.py`` in a folder; return the commit."""
    git(shell, "init", "--quiet", "--initial-branch=trunk", "..")
    git(shell, "remote", "add", "origin", "https://me:s3cret@example.org/digits.git")
    shell.write("pass")
    git(shell, "add", "train.py")
    git(shell, "commit", "--quiet", "--message=begin")
    return git(shell, "rev-parse", "HEAD").strip()


def only_run(server):
    """Return the run; KeyError if there is none yet."""
    ((_, run),) = server.store.runs.items() or [(None, server.run(""))]
    return run


def check_code(run, directory, commit, diff):
    """Check that W&B shows the state of the executed code."""
    assert run.metadata["git"] == {"commit": commit, "remote": "https://example.org/digits.git"}
    assert (run.commit, run.repo) == (commit, "https://example.org/digits.git")
    assert run.files["diff.patch"].decode() == diff
    assert (run.metadata["program"], run.metadata["codePath"]) == (str(directory / "train.py"), "scripts/train.py")
    assert len(run.history) == 1


# During training


def test_code_machine_command_line_and_system_metrics(server, tmp_path, environment):
    shell = Shell(tmp_path / "repository" / "scripts", {**environment, **SOMEBODY})
    commit = begin_repository(shell)
    script = shell.write(MEASURED)
    diff = git(shell, "diff", "HEAD")
    assert "+run = rankzero.start" in diff
    process = shell.start(sys.executable, script, "300", "--api-key", "k3y-of-mine", stdin=subprocess.PIPE)
    with process:
        pid = int(process.stdout.readline().removeprefix("pid="))
        try:
            measured = server.until(lambda _: measured_above(server, 300))
            own = psutil.Process(pid).memory_info().rss / MEGABYTE
        finally:
            _, errors = process.communicate("\n", timeout=A_WHILE)
    assert process.returncode == 0, errors
    run = only_run(server)
    check_code(run, shell.directory, commit, diff)
    assert not [name for name in run.files if name.startswith("code/")]
    found = run.metadata
    assert (found["host"], found["executable"]) == (platform.node(), sys.executable)
    assert found["username"] == psutil.Process().username()
    assert found["cpu_count_logical"] == os.cpu_count()
    assert run.config["rankzero"]["argv"] == [str(script), "300", "--api-key", "***"]
    assert f"psutil=={psutil.__version__}" in run.files["requirements.txt"].decode().splitlines()
    assert own < 300
    assert measured["system.proc.memory.rssMB"] > 300 + own / 2  # it grows between the sample and this measurement
    assert abs(measured["_timestamp"] - run.history[0]["_timestamp"]) < 60


def measured_above(server, megabytes):
    """Return a sample of memory that includes the child process, if any."""
    samples = only_run(server).events
    return next((each for each in samples if each["system.proc.memory.rssMB"] > megabytes), None)


@pytest.mark.parametrize("is_written", [True, False])
def test_stop_run_interrupts_only_the_process_that_holds_the_lock(run_info, is_written):
    code = "from rankzero.rundir.writer_lock import WriterLock; import sys, pathlib\n"
    code += "lock = WriterLock(pathlib.Path(sys.argv[1])) if len(sys.argv) > 1 else None\n"
    code += "try:\n  print('ready', flush=True); sys.stdin.read()\nexcept KeyboardInterrupt: print('interrupted')"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([sys.executable, "-c", code, *[run_info.dir] * is_written], **pipes) as training,
        subprocess.Popen([sys.executable, "-c", code], **pipes) as other,
    ):
        assert [each.stdout.readline() for each in (training, other)] == ["ready\n"] * 2
        found = Environment(host=platform.node(), pid=other.pid)
        with nullcontext() if is_written else pytest.warns(match="is not on this machine"):
            client_settings(WandbLogger().options, run_info, found)["stop_fn"]()
        assert training.communicate(timeout=60)[0] == "interrupted\n" * is_written
        assert other.communicate(timeout=60)[0] == ""


# Later


class Recorded:
    """A run of a script in a repository without W&B; then the repository and the script are changed.

    Args:
        shell: the shell in the script's directory.
    """

    def __init__(self, shell):
        self.directory = shell.directory
        self.commit = begin_repository(shell)
        script = """
        import time
        with rankzero.start("csv", project="p", delivery="off") as run:
            run.log_metrics({"loss": 0.5}, 0)
        """
        self.code = shell.write(script).read_bytes()
        self.diff = git(shell, "diff", "HEAD")
        shell.train(script, "--lr=1")
        self.run_dir = shell.run_dir
        until(lambda: (found := read_environment(self.run_dir)) and found.is_complete)
        git(shell, "commit", "--quiet", "--all", "--message=later")
        (self.directory / "train.py").write_text("pass\n")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return Recorded(Shell(tmp_path_factory.mktemp("repository") / "scripts", SOMEBODY))


@pytest.fixture
def run_dir(recorded, tmp_path):
    """A copy of the run, which was not delivered."""
    return shutil.copytree(recorded.run_dir, tmp_path / "copy" / recorded.run_dir.name)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_late_sync_shows_the_original_state(server, user, recorded, run_dir, is_there):
    someone = User(recorded.directory if is_there else user.directory, user.environment)
    someone.sync(run_dir, "--to", "wandb", "-o", "save_code=true")
    run = only_run(server)
    check_code(run, recorded.directory, recorded.commit, recorded.diff)
    assert run.files["code/scripts/train.py"] == recorded.code
    assert run.metadata["args"] == ["--lr=1"]
    assert b"msgspec==" in run.files["requirements.txt"]


@pytest.mark.parametrize(
    ("variables", "options", "has_git", "has_diff", "has_code"),
    [
        ({"WANDB_SAVE_CODE": "true"}, {}, True, True, True),
        ({"WANDB_SAVE_CODE": "true", "WANDB_DISABLE_CODE": "true"}, {}, True, False, False),
        ({"WANDB_DISABLE_GIT": "true"}, {}, False, False, False),
        ({}, {"settings": {"disable_git": True}}, False, False, False),
        ({}, {"settings": {"disable_git": False, "save_code": True}}, True, True, True),
        ({}, {"save_code": True}, True, True, True),
    ],
)
def test_excluded_details_are_not_sent(server, user, run_dir, variables, options, has_git, has_diff, has_code):
    with user.at_work():
        deliver(run_dir, WandbLogger(project="p", environment=variables, **options))
    run = only_run(server)
    assert "git" in run.metadata if has_git else "git" not in run.metadata
    assert bool(run.commit) == has_git
    assert ("diff.patch" in run.files) == has_diff
    assert ("code/scripts/train.py" in run.files) == has_code
    assert "s3cret" not in "".join(map(str, run.files.values()))
    if "save_code" in options:
        assert run.raw_config["_wandb"]["value"]["code_path"] == "code/scripts/train.py"


def test_hardware_of_another_machine_is_not_shown(server, user, recorded, run_dir):
    (path,) = run_dir.glob("surroundings/*/surroundings.json")
    kept = json.loads(path.read_text())
    del kept["git"]
    path.write_text(json.dumps({**kept, "host": "node17"}))
    user.sync(run_dir, "--to", "wandb")
    found = only_run(server).metadata
    assert (found["host"], found["program"]) == ("node17", str(recorded.directory / "train.py"))
    assert found["args"] == ["--lr=1"]
    assert abs(datetime.fromisoformat(found["startedAt"]).timestamp() - only_run(server).history[0]["_timestamp"]) < 60
    assert not {"os", "cpu_count", "cpu_count_logical", "memory", "disk", "cpu", "gpu"} & found.keys()
    assert len(only_run(server).history) == 1
    assert "diff.patch" not in only_run(server).files
    assert "git" not in found


# Console

PRINTS = """
    import sys, logging
    logging.basicConfig()
    print("before")
    run = rankzero.start("wandb", project="p", settings={"console": "wrap"})
    logging.getLogger("mine").warning("logged")
    from plugins.wandb.test_captured_environment import print_everything
    print_everything(run)
    run.finish()
    print("after")
"""
PRINTED = ["out 1 and more", "err 1", "bar 100 %", "zwei", "Zeilen ü 世", "no end"]


def print_everything(run):
    print("out 1", "and more")
    print("err 1", file=sys.stderr)
    for percent in (0, 50, 100):
        print(f"\rbar {percent} %", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("zwei\nZeilen ü 世")
    print("no end", end="")


def printed(server):
    """Return the lines in W&B, without those of rankzero itself."""
    return [line for line in only_run(server).console if not re.match("(INFO:)?rankzero:", line)]


def test_output_of_the_script_arrives_without_that_of_the_courier(server, shell):
    """Also if W&B's client is set to capture, which would capture its own process."""
    ended = shell.train(PRINTS, PYTHONIOENCODING="utf-8")
    assert "out 1 and more" in ended.stdout
    assert printed(server) == ["WARNING:mine:logged", *PRINTED]
    assert not re.search("wandb", "\n".join(only_run(server).console).replace("delivered to wandb", ""))


@pytest.mark.parametrize("delivery", ["thread", "off"])
def test_console_output_arrives_once(server, user, capsys, delivery):
    run = user.train(print_everything, delivery=delivery, capture_environment=False)
    if delivery == "off":
        user.sync(run.dir)
    assert "out 1 and more" in capsys.readouterr().out
    assert printed(server) == PRINTED


@pytest.mark.parametrize(("variables", "options"), [({"WANDB_CONSOLE": "off"}, {}), ({}, {"console": "off"})])
def test_console_output_can_be_excluded(server, user, variables, options):
    run_dir = user.train(print_everything, variables, settings=options, capture_environment=False).dir
    run = only_run(server)
    assert run.exit_code == 0
    assert run.console == []
    assert "out 1" not in (run_dir / "journal.jsonl").read_text()


def test_a_traceback_arrives(server, shell):
    body = """
    with rankzero.start("wandb", project="p", capture_environment=False) as run:
        print("then")
        1 / 0
    """
    ended = shell.train(body, returns=1)
    assert "ZeroDivisionError" in ended.stderr
    lines = printed(server)
    assert lines[0] == "then"
    assert lines.count("ZeroDivisionError: division by zero") == 1
    assert only_run(server).exit_code == 1
