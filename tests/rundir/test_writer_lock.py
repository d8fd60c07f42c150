"""Whether the process that writes a run is alive: with forks, copies, other machines, and without locks."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time

import msgspec
import pytest

import rankzero
from rankzero import processes
from rankzero.errors import RunInUseError
from rankzero.processes import ProcessId
from rankzero.rundir import writer_lock
from rankzero.rundir.layout import WRITER_LOCK
from rankzero.rundir.writer_lock import Writer, WriterLock, writer_pid, writer_state

HOLDER = """
import os, sys, time
from pathlib import Path
from rankzero.rundir.writer_lock import WriterLock
lock = WriterLock(Path(sys.argv[1]))
if "fork" in sys.argv:
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    print(child)
if "copied" in sys.argv:
    open(Path(sys.argv[1]) / "writer.lock").close()  # as a copy of the directory does
print("held", flush=True)
time.sleep(60)
"""

ASK = "import sys; from pathlib import Path; from rankzero.rundir.writer_lock import writer_state\n" + (
    "print(writer_state(Path(sys.argv[1])).name)"
)


class Holder:
    """Another process that holds the lock."""

    def __init__(self, directory, *flags):
        command = [sys.executable, "-c", HOLDER, directory, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.child = int(self.process.stdout.readline()) if "fork" in flags else None
        assert self.process.stdout.readline() == "held\n"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.kill()
        self.process.stdout.close()
        if self.child:
            os.kill(self.child, signal.SIGKILL)


@pytest.fixture
def hold(tmp_path):
    holders = []

    def hold(*flags):
        holders.append(Holder(tmp_path, *flags))
        return holders[-1]

    yield hold
    for holder in holders:
        holder.end()


def ask_elsewhere(directory):
    """Return the state as another process sees it."""
    out = subprocess.run([sys.executable, "-c", ASK, directory], stdout=subprocess.PIPE, text=True, check=True).stdout
    return Writer[out.strip()]


def set_owner(directory, **changes):
    owner = msgspec.json.decode((directory / WRITER_LOCK).read_bytes(), type=ProcessId)
    (directory / WRITER_LOCK).write_bytes(msgspec.json.encode(msgspec.structs.replace(owner, **changes)))


def test_a_journal_without_a_writer(tmp_path):
    assert writer_state(tmp_path) is Writer.DEAD


def test_held_and_released(tmp_path):
    lock = WriterLock(tmp_path)
    assert (writer_state(tmp_path), ask_elsewhere(tmp_path)) == (Writer.ALIVE, Writer.ALIVE)
    lock.release()  # this process lives on
    assert (writer_state(tmp_path), ask_elsewhere(tmp_path)) == (Writer.DEAD, Writer.DEAD)
    WriterLock(tmp_path).release()


def test_the_writer_comes_from_the_kernel_and_not_from_the_file(tmp_path, hold):
    assert writer_pid(tmp_path) is None
    (tmp_path / WRITER_LOCK).write_bytes(msgspec.json.encode(processes.this_process()))
    assert writer_pid(tmp_path) is None
    lock = WriterLock(tmp_path)
    assert writer_pid(tmp_path) == os.getpid()
    lock.release()
    holder = hold()
    assert writer_pid(tmp_path) == holder.process.pid


def test_killed(tmp_path, hold):
    holder = hold()
    assert writer_state(tmp_path) is Writer.ALIVE
    holder.kill()
    assert writer_state(tmp_path) is Writer.DEAD
    WriterLock(tmp_path).release()


def test_dead_but_not_yet_buried(tmp_path, hold):
    """A zombie still has its process id."""
    holder = hold()
    holder.process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.process.pid, os.WEXITED | os.WNOWAIT)
    assert writer_state(tmp_path) is Writer.DEAD


def test_forked_worker_that_outlives_the_owner_does_not_hold_it(tmp_path, hold):
    holder = hold("fork")
    assert writer_state(tmp_path) is Writer.ALIVE
    holder.kill()
    os.kill(holder.child, 0)  # it lives
    assert writer_state(tmp_path) is Writer.DEAD
    WriterLock(tmp_path).release()


def test_forked_worker_that_ends_does_not_release_it(tmp_path):
    lock = WriterLock(tmp_path)
    child = os.fork()
    if not child:
        os._exit(0 if writer_state(tmp_path) is Writer.ALIVE else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ask_elsewhere(tmp_path) is Writer.ALIVE
    lock.release()


def test_forked_worker_sees_that_the_owner_died(tmp_path):
    answer, tell = os.pipe()
    owner = os.fork()
    if not owner:
        WriterLock(tmp_path)
        if not os.fork():
            while os.getppid() == owner_pid(tmp_path):
                time.sleep(0.01)
            os.write(tell, writer_state(tmp_path).name.encode())
            os._exit(0)
        os._exit(0)
    os.waitpid(owner, 0)
    os.close(tell)
    with open(answer) as pipe:
        assert pipe.read() == "DEAD"


def owner_pid(directory):
    return msgspec.json.decode((directory / WRITER_LOCK).read_bytes(), type=ProcessId).pid


def test_asking_from_the_owner_does_not_release_it(tmp_path):
    """Closing any descriptor of a file gives up a process's record locks on it."""
    lock = WriterLock(tmp_path)
    for _ in range(3):
        assert writer_state(tmp_path) is Writer.ALIVE
        assert writer_state(tmp_path / ".." / tmp_path.name) is Writer.ALIVE
    fd = os.open(tmp_path / WRITER_LOCK, os.O_RDWR)
    child = os.fork()
    if not child:
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, "the kernel's lock is gone"
    os.close(fd)
    lock.release()


def test_copying_the_directory_of_a_living_run_does_not_kill_it(tmp_path, hold):
    """The copy opens and closes the lock's file, which releases the lock."""
    holder = hold("copied")
    assert writer_state(tmp_path) is Writer.ALIVE
    with pytest.raises(RunInUseError, match=str(holder.process.pid)):
        WriterLock(tmp_path)
    holder.kill()
    assert writer_state(tmp_path) is Writer.DEAD


def test_copying_the_directory_of_the_own_run(tmp_path):
    with rankzero.start(dir=tmp_path / "runs", delivery="off") as run:
        shutil.copytree(run.dir, tmp_path / "copy")
        assert ask_elsewhere(run.dir) is Writer.ALIVE
    assert ask_elsewhere(run.dir) is Writer.DEAD


def test_another_process_with_the_same_id_is_not_the_writer(tmp_path, hold):
    """Process ids are given again, and every container has its own."""
    hold().kill()
    set_owner(tmp_path, pid=os.getpid())
    assert writer_state(tmp_path) is Writer.DEAD


# Who may start


def test_second_start_in_the_same_process(tmp_path):
    with (
        rankzero.start(dir=tmp_path, run_id="r1", delivery="off"),
        pytest.raises(RunInUseError, match=r"open in this process already; finish\(\) it first"),
    ):
        rankzero.start(dir=tmp_path, run_id="r1", delivery="off")
    rankzero.start(dir=tmp_path, run_id="r1", delivery="off").finish()


def test_second_start_in_another_process(tmp_path, hold, monkeypatch):
    monkeypatch.setattr(writer_lock, "_TIMEOUT", 0.1)
    directory = tmp_path / "default" / "r1"
    directory.mkdir(parents=True)
    holder = Holder(directory)
    with pytest.raises(RunInUseError, match=f"process {holder.process.pid} on {os.uname().nodename}"):
        rankzero.start(dir=tmp_path, run_id="r1", delivery="off")
    assert writer_state(directory) is Writer.ALIVE
    holder.end()
    rankzero.start(dir=tmp_path, run_id="r1", delivery="off").finish()


def test_a_forked_child_cannot_start_the_parents_run(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_lock, "_TIMEOUT", 0.1)
    lock = WriterLock(tmp_path)
    child = os.fork()
    if not child:
        try:
            WriterLock(tmp_path)
        except RunInUseError as error:
            os._exit(0 if f"process {os.getppid()} on" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    lock.release()


def test_reading_the_state_of_the_lock_does_not_block_a_writer(tmp_path):
    """A courier that looks holds a lock itself for an instant; the writer waits for that."""
    (tmp_path / WRITER_LOCK).touch()
    asking = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_SH); print(flush=True); "
            "time.sleep(0.3)",
            tmp_path / WRITER_LOCK,
        ],
        stdout=subprocess.PIPE,
    )
    asking.stdout.readline()
    WriterLock(tmp_path).release()
    asking.wait()
    asking.stdout.close()


# Other machines, and file systems without locks


def test_another_machine(tmp_path, hold):
    """A free lock means nothing where locks may not be shared; a held one does."""
    holder = hold()
    set_owner(tmp_path, boot="another boot", host="node7")
    assert writer_state(tmp_path) is Writer.ALIVE
    holder.kill()
    assert writer_state(tmp_path) is Writer.UNKNOWN


def test_unreadable_owner(tmp_path, hold):
    hold().kill()
    (tmp_path / WRITER_LOCK).write_text("?")
    assert writer_state(tmp_path) is Writer.UNKNOWN


def refuse(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_file_system_without_locks(tmp_path, caplog, monkeypatch):
    """The run goes on; nobody claims to know whether it lives, except itself."""
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with rankzero.start(dir=tmp_path, run_id="r1", delivery="off") as run:
        assert "cannot be locked (No locks available)" in caplog.text
        assert writer_state(run.dir) is Writer.ALIVE
        with pytest.raises(RunInUseError):
            rankzero.start(dir=tmp_path, run_id="r1", delivery="off")
        run.log_metrics({"loss": 0.5}, 1)
    assert writer_state(run.dir) is Writer.UNKNOWN


def test_lock_that_cannot_be_opened(tmp_path):
    (tmp_path / WRITER_LOCK).mkdir()
    assert writer_state(tmp_path) is Writer.UNKNOWN


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_start_time_distinguishes_processes(hold):
    mine = processes.start_time(os.getpid())
    child = os.fork()
    if not child:
        time.sleep(0.05)
        os._exit(0)
    os.waitpid(child, 0)
    assert mine > 0
    assert processes.start_time(child) == 0
    assert processes.start_time(1) != mine
