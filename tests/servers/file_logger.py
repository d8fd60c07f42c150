"""A logger that writes each call to a file, and fails in any way that a test chooses.

logger = FileLogger(tmp_path / "tracker")
fail(tmp_path / "tracker", "log_metrics", "unavailable", times=2)
...
calls(tmp_path / "tracker", "log_metrics")
"""

import errno
import inspect
import json
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from rankzero import Logger
from rankzero.errors import PossiblyRejectedError, RejectedError, TrackerUnavailableError

CALLS = "calls.jsonl"
FAULTS = "faults.json"
WATERMARK = "watermark.json"

_leaked = []


def _raise(error):
    raise error


DEEDS = {
    "unavailable": lambda fault: _raise(TrackerUnavailableError(f"the tracker is down {fault['text']}")),
    "connection": lambda fault: _raise(ConnectionError(f"connection refused {fault['text']}")),
    "rejected": lambda fault: _raise(RejectedError(f"400 Bad Request {fault['text']}")),
    "possibly": lambda fault: _raise(PossiblyRejectedError(f"cannot take this: 422 {fault['text']}")),
    "permission": lambda fault: _raise(PermissionError(errno.EACCES, "cannot take this", fault["text"])),
    "full": lambda fault: _raise(OSError(errno.ENOSPC, "No space left on device")),
    "mount": lambda fault: _raise(OSError(errno.EIO, "Input/output error")),
    "type": lambda fault: _raise(TypeError(f"cannot take this {fault['text']}")),
    "hang": lambda fault: time.sleep(3600),
    "slow": lambda fault: time.sleep(fault["seconds"]),
    "exit": lambda fault: os._exit(3),
    "segv": lambda fault: os.kill(os.getpid(), signal.SIGSEGV),
    "leak": lambda fault: _leaked.append(bytearray(1 << 20)),
    "print": lambda fault: print(fault["text"]) or print(fault["text"], file=sys.stderr),
}


def fail(directory, verb, deed, *, key=None, times=None, after=False, text="", seconds=0.0):
    """Make ``verb`` (``make`` is the constructor) do ``deed`` from now on.

    key: only for events that contain it. times: only so often. after: only after the event is stored.
    """
    directory.mkdir(parents=True, exist_ok=True)
    faults = _faults(directory)
    fault = {"verb": verb, "deed": deed, "key": key, "times": times, "after": after, "text": text, "seconds": seconds}
    _replace(directory / FAULTS, [*faults, {**fault, "name": f"fault-{time.monotonic_ns()}"}])


def heal(directory):
    """Stop all failures."""
    (directory / FAULTS).unlink(missing_ok=True)


def set_watermark(directory, lines):
    """Set the number of journal lines that the tracker claims to have."""
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / WATERMARK, lines)


def calls(directory, *verbs):
    """Return the calls in order: all, or those of some verbs."""
    try:
        lines = (directory / CALLS).read_text().splitlines()
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines]
    return [call for call in found if not verbs or call["verb"] in verbs]


def rows(directory):
    """Return (step, values) of each row of metrics, from all batches."""
    found = []
    for call in calls(directory, "log_metrics", "log_metrics_batch"):
        found += [(row["step"], row["values"]) for row in call["rows"]] if "rows" in call else [_row(call)]
    return found


def _row(call):
    return call["step"], call["metrics"]


def _recorded(verb):
    signature = inspect.signature(getattr(Logger, verb))

    def record(self, /, *args, **kwargs):
        _, *arguments = signature.bind(self, *args, **kwargs).arguments.items()
        self._act(verb, dict(arguments))

    return record


class FileLogger(Logger):
    """Writes each event by itself."""

    secret_options = frozenset({"password"})
    counts_lines = True

    def __init__(self, directory, password=None, nested=None):
        self.directory = Path(directory)
        self._act("make", {})

    name = "file"
    version = 0

    log_metrics = _recorded("log_metrics")
    log_hyperparams = _recorded("log_hyperparams")
    log_image = _recorded("log_image")
    log_audio = _recorded("log_audio")
    log_video = _recorded("log_video")
    log_figure = _recorded("log_figure")
    log_table = _recorded("log_table")
    log_text = _recorded("log_text")
    log_histogram = _recorded("log_histogram")
    log_graph = _recorded("log_graph")
    log_artifact = _recorded("log_artifact")
    log_checkpoint = _recorded("log_checkpoint")
    define_metric = _recorded("define_metric")
    log_tags = _recorded("log_tags")
    log_console = _recorded("log_console")
    alert = _recorded("alert")
    flush = _recorded("flush")
    finalize = _recorded("finalize")
    close = _recorded("close")

    @property
    def experiment(self):
        return self.directory

    def attach(self, run):
        super().attach(run)
        self._act("attach", {"run": msgspec.to_builtins(run)})

    def watermark(self):
        try:
            return json.loads((self.directory / WATERMARK).read_text())
        except FileNotFoundError:
            return None

    def _act(self, verb, arguments):
        text = json.dumps(msgspec.to_builtins(arguments, enc_hook=str))
        self._misbehave(verb, text, after=False)
        context = self._context
        when = {name: getattr(context, name) for name in ("time", "line", "epoch", "stage")} if context else {}
        call = {"verb": verb, "pid": os.getpid(), "context": when, **json.loads(text)}
        self.directory.mkdir(parents=True, exist_ok=True)
        with open(self.directory / CALLS, "a") as file:
            file.write(json.dumps(call) + "\n")
        self._misbehave(verb, text, after=True)

    def _misbehave(self, verb, text, *, after):
        for fault in _faults(self.directory):
            if fault["verb"] == verb and fault["after"] == after and (fault["key"] or "") in text:
                if fault["times"] is not None and _count(self.directory / fault["name"]) > fault["times"]:
                    continue
                DEEDS[fault["deed"]](fault)


class BatchFileLogger(FileLogger):
    """Writes rows of metrics in batches."""

    def log_metrics_batch(self, rows):
        self._act("log_metrics_batch", {"rows": [msgspec.to_builtins(row) for row in rows]})


def _faults(directory):
    try:
        return json.loads((directory / FAULTS).read_text())
    except FileNotFoundError:
        return []


def _count(path):
    with open(path, "a") as file:
        file.write(".")
        return file.tell()


def _replace(path, value):
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(value))
    os.replace(part, path)
