"""What W&B shows of a process, without extra code, is that of the training process, whoever delivers it and when."""

import json
import os
import platform
import re
import subprocess
import sys
from contextlib import nullcontext
from datetime import datetime

import psutil
import pytest
from plugins.wandb.scripts import Shell
from waiting import A_WHILE, until

from rankzero.capture.environment import Environment, read_environment
from rankzero_wandb import WandbLogger
from rankzero_wandb.opening import client_settings

MEGABYTE = 1 << 20
TRAIN = """
    with rankzero.start("wandb", project="p") as run:
        run.log_metrics({"loss": 0.5}, 0)
"""
MEASURED = """
    import json, os, subprocess, sys, threading, time
    run = rankzero.start("wandb", project="p", settings={"x_stats_sampling_interval": 0.2})
    run.log_metrics({"loss": 0.5}, 0)
    print(f"pid={os.getpid()}", flush=True)
    ended = threading.Event()
    for _ in range(50):
        threading.Thread(target=ended.wait, daemon=True).start()
    CHILD = "x = bytearray(SIZE << 20); print('ready', flush=True); input()".replace("SIZE", sys.argv[1])
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    sys.stdin.readline()
    child.communicate("\\n")
    run.finish()
"""


@pytest.fixture
def shell(tmp_path, environment):
    return Shell(tmp_path / "work", environment)


@pytest.fixture
def repository(tmp_path, environment):
    """A repository in which ``train.py`` stands in a folder, with a change that is not committed."""
    shell = Shell(tmp_path / "repository" / "scripts", environment | SOMEBODY)
    git(shell, "init", "--quiet", "--initial-branch=trunk", "..")
    git(shell, "remote", "add", "origin", "https://me:s3cret@example.org/digits.git")
    shell.write("pass")
    git(shell, "add", "train.py")
    git(shell, "commit", "--quiet", "--message=begin")
    return shell


SOMEBODY = {
    **{f"GIT_{who}_NAME": "Somebody" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "somebody@example.org" for who in ("AUTHOR", "COMMITTER")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


def git(shell, *arguments):
    return shell.run("git", *arguments).stdout


def only_run(server):
    """Return the run; KeyError if there is none yet."""
    ((_, run),) = server.store.runs.items() or [(None, server.run(""))]
    return run


# Code


def check_code(server, repository, commit, diff):
    """Check that W&B shows the state of the code that was run."""
    run = only_run(server)
    program = repository.directory / "train.py"
    assert run.metadata["git"] == {"commit": commit, "remote": "https://example.org/digits.git"}
    assert (run.commit, run.repo) == (commit, "https://example.org/digits.git")
    assert run.files["diff.patch"].decode() == diff
    assert (run.metadata["program"], run.metadata["codePath"]) == (str(program), "scripts/train.py")
    assert len(run.history) == 1
    return run


def test_the_state_of_the_code(server, repository):
    commit = git(repository, "rev-parse", "HEAD").strip()
    repository.write(TRAIN)
    diff = git(repository, "diff", "HEAD")
    repository.train(TRAIN)
    assert "+with rankzero.start" in diff
    run = check_code(server, repository, commit, diff)
    assert not [name for name in run.files if name.startswith("code/")]


@pytest.mark.parametrize("where", ["elsewhere", "repository/scripts"])
def test_a_late_sync_shows_the_old_state(server, repository, tmp_path, where):
    commit = git(repository, "rev-parse", "HEAD").strip()
    body = TRAIN.replace('"p"', '"p", settings={"disable_git": False}')
    code = repository.write(body).read_bytes()
    diff = git(repository, "diff", "HEAD")
    repository.train(body, WANDB_SAVE_CODE="true", RANKZERO_DELIVERY="off")
    wait_for_environment(repository.run_dir)
    git(repository, "commit", "--quiet", "--all", "--message=later")
    (repository.directory / "train.py").write_text("pass\n")
    Shell(tmp_path / where, repository.environment).sync(repository.run_dir, WANDB_SAVE_CODE="true")
    run = check_code(server, repository, commit, diff)
    assert run.files["code/scripts/train.py"] == code


def test_a_run_that_was_not_for_wandb_shows_it_too(server, repository):
    commit = git(repository, "rev-parse", "HEAD").strip()
    body = TRAIN.replace('"wandb"', '"csv"')
    repository.write(body)
    diff = git(repository, "diff", "HEAD")
    repository.train(body, "--lr=1")
    wait_for_environment(repository.run_dir)
    repository.sync(repository.run_dir, "--to", "wandb")
    run = check_code(server, repository, commit, diff)
    assert run.metadata["args"] == ["--lr=1"]
    assert b"msgspec==" in run.files["requirements.txt"]


def test_the_program_is_kept_on_request(server, repository):
    repository.train(TRAIN.replace('"p"', '"p", save_code=True'))
    run = only_run(server)
    assert run.files["code/scripts/train.py"] == (repository.directory / "train.py").read_bytes()
    assert run.raw_config["_wandb"]["value"]["code_path"] == "code/scripts/train.py"


@pytest.mark.parametrize(
    ("variables", "settings", "has_git", "has_diff", "has_code"),
    [
        ({"WANDB_SAVE_CODE": "true"}, {}, True, True, True),
        ({"WANDB_SAVE_CODE": "true", "WANDB_DISABLE_CODE": "true"}, {}, True, False, False),
        ({"WANDB_DISABLE_GIT": "true"}, {}, False, False, False),
        ({}, {"disable_git": True}, False, False, False),
        ({}, {"disable_git": False, "save_code": True}, True, True, True),
    ],
)
def test_what_nobody_may_see_is_not_sent(server, repository, variables, settings, has_git, has_diff, has_code):
    repository.train(TRAIN.replace('"p"', f'"p", settings={settings}'), **variables)
    run = only_run(server)
    assert "git" in run.metadata if has_git else "git" not in run.metadata
    assert bool(run.commit) == has_git
    assert ("diff.patch" in run.files) == has_diff
    assert ("code/scripts/train.py" in run.files) == has_code
    assert "s3cret" not in "".join(map(str, run.files.values()))


@pytest.mark.parametrize("is_written", [True, False])
def test_stop_run_interrupts_who_writes_the_run_and_nobody_whom_a_file_names(run_info, is_written):
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


def wait_for_environment(run_dir):
    until(lambda: (found := read_environment(run_dir)) and found.is_complete)


# Machine, command line


def test_machine_and_command_line(server, shell):
    alive = """
    import sys, time
    with rankzero.start("wandb", project="p") as run:
        run.log_metrics({"loss": 0.5}, 0)
        sys.stdin.readline()
    """
    command = (sys.executable, shell.write(alive), "--lr", "0.1", "--api-key", "k3y-of-mine")
    with shell.start(*command, stdin=subprocess.PIPE) as process:
        try:
            server.until(lambda _: only_run(server).events)
        finally:
            _, errors = process.communicate("\n", timeout=A_WHILE)
    assert process.returncode == 0, errors
    run = only_run(server)
    found = run.metadata
    assert (found["host"], found["executable"]) == (platform.node(), sys.executable)
    assert found["username"] == psutil.Process().username()
    assert found["program"] == str(shell.directory / "train.py")
    assert found["codePath"] == "train.py"
    assert found["cpu_count_logical"] == os.cpu_count()
    assert run.config["rankzero"]["argv"] == [str(shell.directory / "train.py"), "--lr", "0.1", "--api-key", "***"]
    packages = run.files["requirements.txt"].decode().splitlines()
    assert f"psutil=={psutil.__version__}" in packages
    assert "diff.patch" not in run.files
    assert "git" not in found


def test_the_hardware_of_another_machine_is_not_claimed(server, shell, tmp_path):
    shell.train(TRAIN, "--lr", "1", RANKZERO_DELIVERY="off")
    wait_for_environment(shell.run_dir)
    (path,) = shell.run_dir.glob("surroundings/*/surroundings.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "node17"}))
    Shell(tmp_path / "elsewhere", shell.environment).sync(shell.run_dir)
    found = only_run(server).metadata
    assert (found["host"], found["program"]) == ("node17", str(shell.directory / "train.py"))
    assert found["args"] == ["--lr", "1"]
    assert abs(datetime.fromisoformat(found["startedAt"]).timestamp() - only_run(server).history[0]["_timestamp"]) < 60
    assert not {"os", "cpu_count", "cpu_count_logical", "memory", "disk", "cpu", "gpu"} & found.keys()
    assert len(only_run(server).history) == 1


# System metrics


@pytest.mark.parametrize("megabytes", [300])
def test_system_metrics_are_those_of_the_training_process_and_its_children(server, shell, megabytes):
    process = shell.start(sys.executable, shell.write(MEASURED), str(megabytes), stdin=subprocess.PIPE)
    with process:
        pid = int(process.stdout.readline().removeprefix("pid="))
        try:
            measured = server.until(lambda _: measured_above(server, megabytes))
            own = psutil.Process(pid).memory_info().rss / MEGABYTE
        finally:
            _, errors = process.communicate("\n", timeout=A_WHILE)
    assert process.returncode == 0, errors
    assert own < megabytes
    assert measured["system.proc.memory.rssMB"] > megabytes + own
    assert measured["system.proc.cpu.threads"] > 50
    assert abs(measured["_timestamp"] - only_run(server).history[0]["_timestamp"]) < 60


def measured_above(server, megabytes):
    """Return a sample of memory and threads that holds the child and the threads, if there is one."""
    return next(
        (
            sample
            for sample in only_run(server).events
            if sample["system.proc.memory.rssMB"] > megabytes and sample["system.proc.cpu.threads"] > 50
        ),
        None,
    )


def test_a_run_that_is_delivered_later_gets_none(server, shell):
    body = TRAIN.replace('"p"', '"p", settings={"x_stats_sampling_interval": 0.1}')
    shell.train(body, RANKZERO_DELIVERY="off")
    wait_for_environment(shell.run_dir)
    shell.sync(shell.run_dir)
    run = only_run(server)
    assert len(run.history) == 1
    assert run.events == []


# Console

PRINTS = """
    import sys, logging
    logging.basicConfig()
    print("before")
    run = rankzero.start("wandb", project="p", delivery=sys.argv[1])
    print("out 1", "and more")
    print("err 1", file=sys.stderr)
    logging.getLogger("mine").warning("logged")
    for percent in (0, 50, 100):
        print(f"\\rbar {percent} %", end="", file=sys.stderr)
    print(file=sys.stderr)
    print("zwei\\nZeilen \\u00fc \\u4e16")
    print("no end", end="")
    run.finish()
    print("after")
"""
PRINTED = ["out 1 and more", "err 1", "WARNING:mine:logged", "bar 100 %", "zwei", "Zeilen ü 世", "no end"]


@pytest.mark.parametrize("delivery", ["process", "thread", "off"])
def test_what_is_printed_arrives_once(server, shell, delivery):
    ended = shell.train(PRINTS, delivery)
    if delivery == "off":
        shell.sync(shell.run_dir)
    assert "out 1 and more" in ended.stdout
    assert printed(server) == PRINTED


def test_a_traceback_arrives(server, shell):
    body = TRAIN + "        print('then')\n        1 / 0\n"
    ended = shell.train(body, returns=1)
    assert "ZeroDivisionError" in ended.stderr
    lines = printed(server)
    assert lines[0] == "then"
    assert lines.count("ZeroDivisionError: division by zero") == 1
    assert only_run(server).exit_code == 1


def printed(server):
    """Return the lines in W&B, without those of rankzero itself."""
    return [line for line in only_run(server).console if not re.match("(INFO:)?rankzero:", line)]


@pytest.mark.parametrize(
    ("variables", "options"), [({"WANDB_CONSOLE": "off"}, ""), ({}, ', settings={"console": "off"}')]
)
def test_what_is_printed_can_be_kept_back(server, shell, variables, options):
    shell.train(PRINTS.replace('"p"', '"p"' + options), "process", **variables)
    run = only_run(server)
    assert run.exit_code == 0
    assert run.console == []
    journal = (shell.run_dir / "journal.jsonl").read_text()
    assert "out 1" not in journal


def test_the_courier_itself_is_not_heard(server, shell):
    """Also not where the user wants W&B's client to listen, which listens to the process that it is in."""
    shell.train(PRINTS.replace('"p"', '"p", settings={"console": "wrap"}'), "process")
    assert printed(server) == PRINTED
    assert not re.search("wandb", "\n".join(only_run(server).console).replace("delivered to wandb", ""))
