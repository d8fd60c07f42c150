"""The environment of a run: recorded by a separate process, even if parts are missing or broken, without secrets."""

import getpass
import json
import os
import platform
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from servers.file_logger import FileLogger
from servers.training import Training
from waiting import A_WHILE, SOON, until

import rankzero
from rankzero import processes
from rankzero.capture import environment
from rankzero.capture.environment import Environment, read_environment, record_environment, without_password
from rankzero.secrets import mask_arguments

FOUND = "surroundings.json"


@pytest.fixture(autouse=True)
def as_by_default(monkeypatch):
    monkeypatch.delenv("RANKZERO_CAPTURE_ENVIRONMENT")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a commit, in which git sees no settings of the user's."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Somebody")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "somebody@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=trunk")
    (root / "train.py").write_text("lr = 1\n")
    git(root, "add", "train.py")
    git(root, "commit", "--quiet", "--message=begin")
    return root


def git(root, *arguments):
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=A_WHILE
    )
    return done.stdout.strip()


@pytest.fixture
def look(tmp_path):
    """Look around in a run's directory; return it and what was found."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()

    def look(program="", secrets=()):
        record_environment(run_dir, str(program), list(secrets))
        return run_dir, until(lambda: complete(run_dir))

    return look


def complete(run_dir):
    found = read_environment(run_dir)
    return found if found is not None and found.is_complete else None


def begin(tmp_path, **options):
    return rankzero.start(
        [FileLogger(tmp_path / "tracker")], **{"dir": tmp_path / "runs", "delivery": "off", **options}
    )


# What is found


def test_the_process_and_its_machine(look, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "1", "\udcff"])
    before = time.time()
    _, found = look()
    assert (found.host, found.pid, found.user) == (platform.node(), os.getpid(), getpass.getuser())
    assert (found.cwd, found.argv) == (str(tmp_path), ("train.py", "--lr", "1", "\\udcff"))
    assert (found.program, found.code) == ("", None)
    assert (found.cpus, found.torch) == (os.cpu_count(), version("torch") if find_spec("torch") else "")
    assert found.cpu
    assert found.memory == psutil.virtual_memory().total
    assert (found.executable, found.python) == (sys.executable, platform.python_version())
    assert before <= found.started <= time.time()


def test_the_packages_of_the_training_process(look, monkeypatch, tmp_path):
    here = tmp_path / "site" / "only_here-1.5.dist-info"
    here.mkdir(parents=True)
    (here / "METADATA").write_text("Metadata-Version: 2.1\nName: only-here\nVersion: 1.5\n")
    (tmp_path / "site" / "broken-1.dist-info").mkdir()
    (tmp_path / "site" / "old-2.egg-info").write_text("Metadata-Version: 1.1\nName: old\nVersion: 2\n")  # by distutils
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    run_dir, found = look()
    assert found.packages == "surroundings/1/requirements.txt"
    lines = (run_dir / found.packages).read_text().splitlines()
    assert {"only-here==1.5", "old==2", f"msgspec=={version('msgspec')}"} <= set(lines)
    assert lines == sorted(lines, key=str.lower)
    assert len(lines) == len(set(lines))


def test_the_program_is_copied(look, repository):
    run_dir, found = look(repository / "train.py")
    assert found.program == str(repository / "train.py")
    assert found.code == "surroundings/1/code/train.py"
    assert (run_dir / found.code).read_text() == "lr = 1\n"


def test_secret_literals_are_in_neither_copy(look, repository):
    lines = 'API_KEY = "k3y-k3y-k3y"\npad_token = "<|endoftext|>"\npassword = os.environ["PW"]\n# \xe9 http://me:k3y-k3y@h\n'
    (repository / "train.py").write_text(lines, encoding="latin-1")
    run_dir, found = look(repository / "train.py")
    masked = lines.replace("k3y-k3y-k3y", "***").replace("k3y-k3y", "***")
    assert (run_dir / found.code).read_text(encoding="latin-1") == masked
    assert "+API_KEY = " in (run_dir / found.git.diff).read_text(encoding="latin-1")
    assert "k3y" not in (run_dir / found.git.diff).read_text(encoding="latin-1")


@pytest.mark.parametrize("make", ["none", "directory", "large"])
def test_a_program_that_cannot_be_copied(look, tmp_path, make):
    program = tmp_path / "program"
    if make == "directory":
        program.mkdir()
    elif make == "large":
        with open(program, "wb") as file:
            file.truncate(10_000_001)
    _, found = look(program)
    assert (found.program, found.code) == (str(program), None)
    assert found.packages


@pytest.mark.parametrize(("status", "names"), [(0, ("NVIDIA H200", "NVIDIA H200")), (9, ())])
def test_the_gpus(look, monkeypatch, tmp_path, status, names):
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nprintf 'NVIDIA H200\\nNVIDIA H200\\n'; exit {status}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
    assert look()[1].gpus == names


# git


def test_a_repository_with_changes(look, repository):
    git(repository, "config", "color.diff", "always")
    (repository / "train.py").write_text("lr = 2\n")
    (repository / "staged.py").write_text("new\n")
    git(repository, "add", "staged.py")
    (repository / "untracked.py").write_text("x\n")
    run_dir, found = look(repository / "train.py")
    assert (found.git.root, found.git.commit) == (str(repository), git(repository, "rev-parse", "HEAD"))
    assert (found.git.branch, found.git.remote, found.git.diff) == ("trunk", None, "surroundings/1/diff.patch")
    git(repository, "reset", "--quiet", "--hard")
    git(repository, "apply", str(run_dir / found.git.diff))
    assert (repository / "train.py").read_text() == "lr = 2\n"
    assert (repository / "staged.py").read_text() == "new\n"
    assert "untracked" not in (run_dir / found.git.diff).read_text()
    assert found.git.dirty


def test_a_program_below_the_root_of_a_clean_repository_without_a_branch(look, repository):
    git(repository, "checkout", "--quiet", "--detach")
    (repository / "below").mkdir()
    os.utime(repository / "train.py", (1, 1))
    index = (repository / ".git" / "index").read_bytes()
    _, found = look(repository / "below" / "gone.py")
    assert (found.git.root, found.git.branch, found.git.diff) == (str(repository), None, None)
    assert found.git.dirty is False
    assert (repository / ".git" / "index").read_bytes() == index


def test_the_repository_of_the_working_directory_is_used_if_the_program_has_none(
    look, repository, monkeypatch, tmp_path
):
    monkeypatch.chdir(repository)
    (tmp_path / "elsewhere").mkdir()
    assert look(tmp_path / "elsewhere" / "train.py")[1].git.root == str(repository)
    assert look()[1].git.root == str(repository)


def test_a_remote_is_recorded_without_its_password(look, repository):
    git(repository, "remote", "add", "upstream", "https://me:s3cr3t@example.org/team/a.git")
    run_dir, found = look(repository / "train.py")
    assert found.git.remote == "https://example.org/team/a.git"
    git(repository, "remote", "add", "origin", "git@example.org:me/a.git")
    assert look(repository / "train.py")[1].git.remote == "git@example.org:me/a.git"
    assert not [path for path in run_dir.rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://token@example.org/a", "https://example.org/a"),
        ("https://me:p@ss@example.org/a", "https://example.org/a"),
        ("ssh://git@example.org:22/a", "ssh://git@example.org:22/a"),
        ("ssh://git:p4ss@example.org/a", "ssh://example.org/a"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("/srv/a@b", "/srv/a@b"),
    ],
)
def test_without_password(url, shown):
    assert without_password(url) == shown


def test_a_huge_diff_is_left_out(look, repository):
    (repository / "train.py").write_text("x = 1\n" * 2_000_000)
    run_dir, found = look(repository / "train.py")
    assert found.git.commit
    assert (found.git.diff, found.git.dirty) == (None, True)
    assert not list(run_dir.rglob("*.patch"))


def _no_commit(repository):
    git(repository, "update-ref", "-d", "HEAD")


def _broken(repository):
    (repository / ".git" / "HEAD").write_text("nonsense")


def _torn(repository):
    (repository / ".git" / "refs" / "heads" / "trunk").write_text("")


def _no_repository(repository):
    (repository / ".git").rename(repository.parent / "moved")


@pytest.mark.parametrize("spoil", [_no_commit, _broken, _torn, _no_repository])
def test_without_a_commit_there_is_no_git_and_no_error(look, repository, monkeypatch, spoil):
    spoil(repository)
    monkeypatch.chdir(repository)
    run_dir, found = look(repository / "train.py")
    assert found.git is None
    assert found.code
    assert (run_dir / "courier.log").read_text() == ""


@pytest.mark.parametrize("path", ["", "/nowhere"])
def test_without_git_there_is_no_git_and_no_error(look, repository, monkeypatch, path):
    monkeypatch.setenv("PATH", path)
    run_dir, found = look(repository / "train.py")
    assert found.git is None
    assert found.code
    assert (run_dir / "courier.log").read_text() == ""


def test_git_that_hangs_is_not_waited_for(repository, monkeypatch, tmp_path):
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(environment, "_TIMEOUT", 0.2)
    began = time.monotonic()
    assert environment._GitRunner(str(slow), str(repository))("rev-parse") is None
    assert time.monotonic() - began < SOON


def test_one_failed_part_does_not_lose_the_others(tmp_path):
    directory = tmp_path / "surroundings" / "1"
    directory.mkdir(parents=True)
    (directory / "requirements.txt").mkdir()
    told = {"known": {"pid": 7, "program": __file__}, "run_dir": str(tmp_path), "directory": str(directory)}
    command = [sys.executable, "-m", "rankzero.capture.environment"]
    said = json.dumps({**told, "path": sys.path})
    done = subprocess.run(command, input=said, text=True, capture_output=True, timeout=A_WHILE)
    assert "IsADirectoryError" in done.stderr
    found = read_environment(tmp_path)
    assert (found.pid, found.packages, found.code) == (7, None, "surroundings/1/code/test_environment.py")


# Secrets


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("t.py --api-key k3y --lr 1", "t.py --api-key *** --lr 1"),
        ("--API_KEY=k3y=x", "--API_KEY=***"),
        ("--x-token=k3y logger.password=k3y", "--x-token=*** logger.password=***"),
        ("-token k3y", "-token ***"),
        ("--token --lr=1", "--token --lr=1"),
        ("--pwd k3y --auth=k3y --passphrase k3y --author me", "--pwd *** --auth=*** --passphrase *** --author me"),
        ("https://k3y@example.org git@example.org", "https://***@example.org git@example.org"),
        ("postgresql://me:k3/y@h/d?x=1&password=k3y", "postgresql://me:***@h/d?x=1&password=***"),
        ("--max-tokens=5 --tokenizer bert token", "--max-tokens=5 --tokenizer bert token"),
        ("https://me:k3y@example.org/?token=k3y", "https://me:***@example.org/?token=***"),
        ("https://me:k3y@example.org/", "https://me:***@example.org/"),
        ('{"lr":1,"api_key":"k3y","n":[1]}', '{"lr":1,"api_key":***,"n":[1]}'),
        ("+logger={api_key:k3y,lr:1}", "+logger={api_key:***,lr:1}"),
        ("key-is-k3y-k3y", "key-is-***"),
    ],
)
def test_secrets_on_the_command_line_are_masked(given, shown):
    assert mask_arguments(given.split(), ["k3y-k3y"]) == shown.split()


def test_a_header_is_masked_to_its_end():
    assert mask_arguments(["Authorization: Bearer k3y"]) == ["Authorization: ***"]


def test_no_secret_reaches_the_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "k3y-k3y", "--note=hunter2-hunter2"])
    logger = FileLogger(tmp_path / "tracker", password="hunter2-hunter2")
    with rankzero.start([logger], dir=tmp_path / "runs", delivery="thread") as run:
        found = read_environment(run.dir, timeout=A_WHILE)
    assert found.argv == ("train.py", "--api-key", "***", "--note=***")
    for path in run.dir.rglob("*"):
        # The copy of the program is this test.
        if path.is_file() and "code" not in path.parts and "diff.patch" not in path.name:
            assert b"k3y-k3y" not in path.read_bytes()
            assert b"hunter2" not in path.read_bytes()


# start()


@pytest.mark.parametrize("how", ["off", "thread", "process"])
def test_every_start_of_a_run_counts(tmp_path, how):
    for number in (1, 2):
        with begin(tmp_path, run_id="r1", delivery=how) as run:
            found = read_environment(run.dir, timeout=A_WHILE)
            assert found.packages == f"surroundings/{number}/requirements.txt"
    assert sorted(path.name for path in (run.dir / "surroundings").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("how", ["start()", "environment", "file"])
def test_it_can_be_turned_off(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    if how == "file":
        Path("rankzero.toml").write_text("capture_environment = false\n")
    elif how == "environment":
        monkeypatch.setenv("RANKZERO_CAPTURE_ENVIRONMENT", "0")
    with begin(tmp_path, **({"capture_environment": False} if how == "start()" else {})) as run:
        pass
    assert not (run.dir / "surroundings").exists()


def test_a_process_that_cannot_be_started_is_no_error(tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG", "rankzero")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with begin(tmp_path) as run:
        pass
    (record,) = [each for each in caplog.records if "environment of the run" in each.getMessage()]
    assert record.levelname == "DEBUG"
    found = read_environment(run.dir)  # what the process knows of itself
    assert (found.pid, found.python, found.git, found.is_complete) == (
        os.getpid(),
        platform.python_version(),
        None,
        False,
    )


def test_start_does_not_wait_and_the_process_is_reaped(tmp_path, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kw: started.append(popen(*args, **kw)) or started[-1])
    with begin(tmp_path) as run:
        assert not read_environment(run.dir).is_complete
        assert started[0].pid in processes._detached
        assert os.getsid(started[0].pid) == started[0].pid
        read_environment(run.dir, timeout=A_WHILE)
    until(lambda: Path(f"/proc/{started[0].pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    with begin(tmp_path) as run:
        assert started[0].pid not in processes._detached
        assert not Path(f"/proc/{started[0].pid}").exists()
        read_environment(run.dir, timeout=A_WHILE)


def test_it_continues_when_the_training_process_is_killed(tmp_path):
    training = Training(tmp_path)
    training.run("begin(delivery='off')\nos.kill(os.getpid(), signal.SIGKILL)")
    found = read_environment(training.run_dir, timeout=A_WHILE)
    assert found.argv == found.argv[:1] == (found.program,) == (str(tmp_path / "train.py"),)
    assert "begin(delivery=" in (training.run_dir / found.code).read_text()


def test_a_run_that_was_deleted_does_not_come_back(look, tmp_path):
    told = {"known": {}, "run_dir": str(tmp_path / "gone"), "directory": str(tmp_path / "gone" / "1"), "path": sys.path}
    command = [sys.executable, "-m", "rankzero.capture.environment"]
    subprocess.run(command, input=json.dumps(told), text=True, capture_output=True, timeout=A_WHILE)
    assert not (tmp_path / "gone").exists()


# Reading


def write(run_dir, number, content=None):
    directory = run_dir / "surroundings" / str(number)
    directory.mkdir(parents=True)
    if content is not None:
        (directory / FOUND).write_text(content)


def test_there_may_be_none(tmp_path):
    began = time.monotonic()
    assert read_environment(tmp_path, timeout=60) is None
    assert read_environment(tmp_path / "nowhere", timeout=60) is None
    assert time.monotonic() - began < SOON


def test_the_newest_complete_ones_are_returned(tmp_path):
    for number in (1, 2, 10):
        write(tmp_path, number, f'{{"pid":{number},"later":"added"}}')
    assert read_environment(str(tmp_path), timeout=5) == Environment(pid=10)
    write(tmp_path, 11)
    (tmp_path / "surroundings" / "notes").mkdir()
    assert read_environment(tmp_path) == Environment(pid=10)
    write(tmp_path, 12, '{"pid":1')
    assert read_environment(tmp_path) == Environment(pid=10)


def test_those_that_are_still_to_come_are_waited_for(tmp_path):
    write(tmp_path, 1, '{"pid":1}')
    write(tmp_path, 2)
    began = time.monotonic()
    assert read_environment(tmp_path, timeout=0.2).pid == 1
    assert 0.2 <= time.monotonic() - began < SOON
    timer = threading.Timer(0.2, (tmp_path / "surroundings" / "2" / FOUND).write_text, ['{"pid":2}'])
    timer.start()
    assert read_environment(tmp_path, timeout=A_WHILE).pid == 2
    assert time.monotonic() - began < SOON
    timer.join()
