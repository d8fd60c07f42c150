"""The environment of a run: machine, command line, git state, installed packages, script.

`record_environment` starts this module as a program, so that git and the list of packages cost the training process
nothing. The program writes into ``surroundings/N`` in the run's directory, where N counts the starts of the run.
``surroundings.json`` first has what the training process knows of itself, and in the end everything.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from rankzero.errors import UnsafePathError
from rankzero.files.writing import inside, make_directory, read_own, write_file
from rankzero.processes import detach, start_module
from rankzero.rundir.layout import COURIER_LOG, DIFF, ENVIRONMENT, ENVIRONMENT_FILE, PACKAGES, PROGRAM
from rankzero.secrets import mask_arguments, mask_source
from rankzero.values import as_utf8
from rankzero.waiting import wait_until

T = TypeVar("T")

log = logging.getLogger("rankzero.environment")

_MOST_BYTES = 10_000_000  # of a diff, or a program
_NICENESS = 10
_TIMEOUT = 60.0
_USER_IN_URL = re.compile(r"(\w://)[^/?#]*@")
_ONLY_USER_OF_SSH = re.compile(r"ssh://[^/@:]+@[^@]*")


class Git(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of the repository that the program belongs to."""

    root: str
    commit: str
    branch: str | None = None
    """None if no branch is checked out."""
    remote: str | None = None
    """The URL of ``origin``, or else of the first remote, without a password."""
    dirty: bool | None = None
    """Whether tracked files differ from the commit; None if unknown."""
    diff: str | None = None
    """The file with the diff to the commit, without untracked files; None above 10 MB.

    Relative to the run's directory, like all paths here.
    """

    def described(self) -> str:
        """Return the commit, the branch and whether there are changes, for people."""
        state = ", ".join(filter(None, (self.branch, "with changes" if self.dirty else "")))
        return f"{self.commit[:10]} ({state})" if state else self.commit[:10]


class Environment(msgspec.Struct, frozen=True, omit_defaults=True):
    """The environment of one start of a run."""

    host: str = ""
    pid: int = 0
    user: str = ""
    cwd: str = ""
    argv: tuple[str, ...] = ()
    """The command line, with ``***`` for secrets."""
    program: str = ""
    """The path of the script; empty in a notebook."""
    executable: str = ""
    """The path of the Python interpreter."""
    python: str = ""
    """The version of Python."""
    started: float = 0.0
    """Unix time in seconds."""
    cpu: str = ""
    """The processor's name."""
    cpus: int = 0
    """How many logical processors the machine has."""
    memory: int = 0
    """The machine's memory in bytes."""
    gpus: tuple[str, ...] = ()
    """The names of the machine's NVIDIA GPUs, from ``nvidia-smi``."""
    torch: str = ""
    """The version of the installed torch."""
    git: Git | None = None
    """None without git, outside a repository, and before its first commit."""
    packages: str | None = None
    """The file with a line ``name==version`` for each installed package."""
    code: str | None = None
    """The file with a copy of the script."""
    is_complete: bool = True
    """Whether git, the packages, the machine and the user's name are included."""

    def described(self) -> dict[str, str]:
        """Return label → text for people: command, directory, git, …; without what is unknown."""
        interpreter = ["python"] if self.argv and self.argv[0].endswith(".py") else []
        gpus = [f"{count} × {name}" if count > 1 else name for name, count in Counter(self.gpus).items()]
        texts = {
            "command": shlex.join([*interpreter, *self.argv]),
            "directory": self.cwd,
            "git": self.git.described() if self.git else "",
            "Python": self.python,
            "torch": self.torch,
            "machine": self.host,
            "processor": f"{self.cpus} × {self.cpu}" if self.cpus and self.cpu else self.cpu,
            "memory": f"{self.memory / 1e9:.1f} GB" if self.memory else "",
            "GPU": ", ".join(gpus),
        }
        return {label: text for label, text in texts.items() if text}


class _ProgramInput(msgspec.Struct):
    """The input of the program, from the training process."""

    known: Environment
    run_dir: str
    directory: str
    path: list[str]
    """The ``sys.path`` of the training process."""
    secrets: list[str] = []
    """Values that are masked in copied files."""


def read_environment(run_dir: str | os.PathLike[str], timeout: float = 0.0) -> Environment | None:
    """Return the environment of a run's last start, None if there is none.

    Args:
        run_dir: the run's directory.
        timeout: how many seconds to wait until it is complete.
    """
    run_dir = Path(run_dir)
    newest: Environment | None = None

    def is_complete() -> bool:
        nonlocal newest
        numbers = _starts(run_dir)
        found = ((number, _read(run_dir, number)) for number in reversed(numbers))
        number, newest = next((each for each in found if each[1] is not None), (0, None))
        return not numbers or (newest is not None and newest.is_complete and number == numbers[-1])

    wait_until(is_complete, timeout)
    return newest


def _read(run_dir: Path, number: int) -> Environment | None:
    try:
        found = msgspec.json.decode(
            read_own(inside(run_dir, f"{ENVIRONMENT}/{number}/{ENVIRONMENT_FILE}")), type=Environment
        )
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    return msgspec.structs.replace(
        found,
        pid=max(0, found.pid),  # a negative one would mean a group of processes
        packages=_inside(run_dir, found.packages),
        code=_inside(run_dir, found.code),
        git=found.git and msgspec.structs.replace(found.git, diff=_inside(run_dir, found.git.diff)),
    )


def _inside(run_dir: Path, path: str | None) -> str | None:
    """Return a path if it is a file in the run's directory, otherwise None."""
    try:
        return path if path and inside(run_dir, path).is_file() else None
    except UnsafePathError:
        return None


def _starts(run_dir: Path) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(run_dir / ENVIRONMENT) if name.isdecimal())
    except OSError:
        return []


def write_environment(run_dir: Path, environment: Environment) -> None:
    """Write the environment of the first start of a run that another tool recorded.

    Raises:
        OSError: it cannot be written.
    """
    write_file(make_directory(run_dir, f"{ENVIRONMENT}/1") / ENVIRONMENT_FILE, msgspec.json.encode(environment))


# In the training process


def record_environment(run_dir: Path, program: str, secrets: list[str]) -> None:
    """Record the environment of this process in the background.

    Args:
        run_dir: the run's directory.
        program: the path of the script; empty in a notebook.
        secrets: values that are masked in the command line.

    Raises:
        OSError: the directory cannot be created, or the program cannot be started.
    """
    directory = run_dir / ENVIRONMENT / str(max(_starts(run_dir), default=0) + 1)
    inside(run_dir, directory.relative_to(run_dir)).mkdir(parents=True)
    known = Environment(
        host=platform.node(),
        pid=os.getpid(),
        cwd=as_utf8(_cwd()),
        argv=tuple(mask_arguments([as_utf8(str(each)) for each in getattr(sys, "argv", ())], secrets)),
        program=as_utf8(program),
        executable=as_utf8(sys.executable or ""),
        python=platform.python_version(),
        started=time.time(),
        is_complete=False,
    )
    (directory / ENVIRONMENT_FILE).write_bytes(msgspec.json.encode(known))
    given = _ProgramInput(
        known, as_utf8(str(run_dir)), as_utf8(str(directory)), [as_utf8(str(each)) for each in sys.path], secrets
    )
    detach(start_module(__name__, msgspec.json.encode(given), run_dir / COURIER_LOG))


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return ""


# In the capturing process; its imports are inside the functions, so that the training process does not pay for them


def main() -> None:
    """Read the known part from standard input, capture the rest, and write all of it to the file."""
    import getpass

    from rankzero.files.directories import LocalPlace, replace_file

    os.nice(_NICENESS)
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=_ProgramInput)
    sys.path[:] = given.path
    directory, known = Path(given.directory), given.known

    def kept(name: str | None) -> str | None:
        return None if name is None else os.path.relpath(directory / name, given.run_dir)

    git = _attempt(lambda: _git_state(directory, given.secrets, [os.path.dirname(known.program), known.cwd]))
    found = msgspec.structs.replace(
        known,
        user=_attempt(getpass.getuser) or "",
        cpu=_attempt(_cpu_name) or "",
        cpus=os.cpu_count() or 0,
        memory=_attempt(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) or 0,
        gpus=_attempt(_gpu_names) or (),
        torch=_attempt(_torch_version) or "",
        git=git and msgspec.structs.replace(git, diff=kept(git.diff)),
        packages=kept(_attempt(lambda: _list_packages(directory))),
        code=kept(_attempt(lambda: _copy_program(directory, known.program, given.secrets))),
        is_complete=True,
    )
    if directory.is_dir():  # otherwise the run was deleted meanwhile
        replace_file(LocalPlace(str(directory)), ENVIRONMENT_FILE, msgspec.json.encode(found))


def _attempt(look: Callable[[], T]) -> T | None:
    """Return the result of ``look``, or log a warning and return None if it fails, so that the rest is captured."""
    try:
        return look()
    except Exception as error:
        log.warning("%s: %s", type(error).__name__, error)
        return None


def _cpu_name() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu_names() -> tuple[str, ...]:
    import shutil

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT)
    return tuple(filter(None, map(str.strip, answer.stdout.splitlines()))) if answer.returncode == 0 else ()


def _torch_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def _list_packages(directory: Path) -> str:
    from email import message_from_string
    from importlib.metadata import distributions

    versions: dict[str, str] = {}
    for each in distributions():
        with suppress(Exception):  # the metadata may be broken
            # Not `each.metadata`, which parses the whole description.
            text = each.read_text("METADATA") or each.read_text("PKG-INFO") or each.read_text("") or ""
            header = message_from_string(text.partition("\n\n")[0])
            versions.setdefault(header["Name"], header["Version"])  # the first one is the one that is imported
    lines = sorted((f"{name}=={version}\n" for name, version in versions.items() if name), key=str.lower)
    (directory / PACKAGES).write_text("".join(lines), encoding="utf-8")
    return PACKAGES


def _copy_program(directory: Path, program: str, secrets: list[str]) -> str | None:
    if not os.path.isfile(program) or os.path.getsize(program) > _MOST_BYTES:
        return None
    (directory / PROGRAM).mkdir()
    name = f"{PROGRAM}/{os.path.basename(program)}"
    (directory / name).write_bytes(_masked(Path(program).read_bytes(), secrets))
    return name


def _masked(text: bytes, secrets: list[str]) -> bytes:
    """Return a text of any encoding with literals that are secrets masked."""
    return mask_source(text.decode("utf-8", "surrogateescape"), secrets).encode("utf-8", "surrogateescape")


def _git_state(directory: Path, secrets: list[str], directories: list[str]) -> Git | None:
    """Return the state of the git repository of the first directory that is inside one."""
    import shutil

    git = shutil.which("git")
    for start in directories if git else ():
        if not os.path.isdir(start):
            continue
        assert git is not None
        run = _GitRunner(git, start)
        root = run("rev-parse", "--show-toplevel")
        commit = run("rev-parse", "--verify", "--quiet", "HEAD")
        if root and commit:
            run = _GitRunner(git, root)
            remotes = (run("remote") or "").split()
            remote = "origin" if "origin" in remotes or not remotes else remotes[0]
            url = run("remote", "get-url", remote) if remotes else None
            changes = run.read("status", "--porcelain", "--untracked-files=no")
            return Git(
                root=root,
                commit=commit,
                branch=run("symbolic-ref", "--short", "--quiet", "HEAD"),
                remote=url and without_password(url),
                dirty=None if changes is None else bool(changes),
                diff=_attempt(functools.partial(_write_diff, git, root, directory / DIFF, secrets)),
            )
    return None


def without_password(url: str) -> str:
    """Return a repository's URL without user and password; a user for ssh is kept.

    >>> without_password("https://me:s3cret@example.org/a.git")
    'https://example.org/a.git'
    """
    return url if _ONLY_USER_OF_SSH.fullmatch(url) else _USER_IN_URL.sub(r"\1", url)


def _write_diff(git: str, root: str, path: Path, secrets: list[str]) -> str | None:
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        # git diff refreshes the index and locks it, which would disturb a commit of the user. So it gets a copy of the
        # index, with the time of the original, which git compares with those of the files.
        index = os.path.join(root, _GitRunner(git, root)("rev-parse", "--git-path", "index") or "")
        run = _GitRunner(git, root, GIT_INDEX_FILE=shutil.copy2(index, scratch))
        options = ["--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--submodule=diff"]
        diff = run.read("diff", *options, "HEAD")
    if not diff:
        return None
    path.write_bytes(_masked(diff, secrets))
    return path.name


class _GitRunner:
    """Runs git commands in the repository of a directory without changing it."""

    def __init__(self, git: str, directory: str, **environment: str) -> None:
        # A file system monitor is a program that the repository names, and would keep running.
        self._command = [git, "-C", directory, "-c", "core.fsmonitor=false"]
        self._environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", **environment}

    def __call__(self, *arguments: str) -> str | None:
        """Return the output of a git command, one line; None if there is none."""
        answer = self.read(*arguments)
        return as_utf8(os.fsdecode(answer)).strip() or None if answer else None

    def read(self, *arguments: str) -> bytes | None:
        """Return the whole output of a git command; None if it fails, takes too long or prints too much."""
        process = subprocess.Popen(
            [*self._command, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        timer = threading.Timer(_TIMEOUT, process.kill)
        timer.start()
        with process, process.stdout:
            answer = process.stdout.read(_MOST_BYTES + 1)
            if len(answer) > _MOST_BYTES:
                process.kill()
            status = process.wait()
        timer.cancel()
        return answer if status == 0 else None


if __name__ == "__main__":
    main()
