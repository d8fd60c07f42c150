"""Warnings with the user's line, messages that appear once, and "did you mean" suggestions."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident

from rankzero.errors import TrackerUnavailableError

log = logging.getLogger("rankzero.warnings")

SIMILAR = 0.6
VERY_SIMILAR = 0.85


def warn(message: str, category: type[Warning], stacklevel: int) -> None:
    """Warn like `warnings.warn`; if a filter turns the warning into an error, log it instead of raising."""
    try:
        warnings.warn(message, category, stacklevel=stacklevel + 1)
    except Exception:
        log.warning("%s", message)


def warn_user(message: str) -> None:
    """Warn with the location of the nearest caller outside this package; never raises."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "rankzero":
        frame, level = frame.f_back, level + 1
    warn(message, UserWarning, level)


_uncaptured: set[int] = set()
"""The threads whose output is not captured now."""


@contextmanager
def uncaptured() -> Iterator[None]:
    """Exclude this thread's output from the captured console, so that a courier does not deliver its own messages."""
    thread = get_ident()
    _uncaptured.add(thread)
    try:
        yield
    finally:
        _uncaptured.discard(thread)


def is_uncaptured(thread: int) -> bool:
    """Return whether a thread is inside `uncaptured`."""
    return thread in _uncaptured


class OnceWarner:
    """Warns of each topic once.

    Args:
        emit: takes a message; `warn_user` by default.
    """

    def __init__(self, emit: Callable[[str], object] | None = None) -> None:
        self._emit = emit
        self._topics: set[str] = set()

    def warn(self, topic: str, message: str | None = None) -> None:
        """Emit ``message``, unless there was a message about ``topic`` before; without a message, emit the topic."""
        if topic not in self._topics:
            self._topics.add(topic)
            (self._emit or warn_user)(topic if message is None else message)


def describe(error: BaseException) -> str:
    """Return ``Type: message``; only the type if the exception cannot be converted to a string."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


_EXCEPTION = r"(?:^|(?<=\s))(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Timeout)): "
_URL = r"(\w+://)(?:[^\s/'\"]*@)?([^\s/'\"()<>,;]+)"
_HOST = r"host='([^']+)', port=(\d+)"
_CAUSES = {
    "connection refused": "connection refused",
    "name or service not known|name resolution|nodename nor servname|getaddrinfo failed": "unknown host name",
    "network is unreachable|no route to host": "no route to the host",
    "certificate verify failed": "its certificate is not trusted",
    "connection reset|connection aborted|remote end closed|server disconnected": "the connection was lost",
    "timed out|timeout": "no answer in time",
}
"""Pattern of an HTTP client's error message → the reason to print."""


def reason(problem: str, length: int = 400) -> str:
    """Shorten the error of a delivery to one readable line; ``courier.log`` has all of it."""
    text = " ".join(problem.split())
    found = re.search(_EXCEPTION, text)
    before, after = (text[: found.start()], text[found.end() :]) if found else ("", text)
    url, host = re.search(_URL, after), re.search(_HOST, after)
    address = "".join(url.groups()) if url else ":".join(host.groups()) if host else ""
    why = next((short for words, short in _CAUSES.items() if re.search(words, after, re.IGNORECASE)), None)
    if address and why:
        text = f"{before}cannot reach {address}: {why}"
    elif found and found[1] == TrackerUnavailableError.__name__:  # the state says it already
        text = before + after
    return text if len(text) <= length else f"{text[: length - 1]}…"


def nearest(word: str, candidates: Iterable[str], similarity: float = SIMILAR) -> str | None:
    """Return the candidate most similar to ``word``, None if none is; ignores case and treats ``-`` like ``_``.

    >>> nearest("log-modl", ["log_model", "offline"])
    'log_model'
    """
    from difflib import get_close_matches  # 5 ms, and only needed when something is wrong

    folded = {_fold(candidate): candidate for candidate in candidates}
    found = get_close_matches(_fold(word), folded, n=1, cutoff=similarity)
    return folded[found[0]] if found else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `` Did you mean 'NAME'?`` with its leading space, or nothing."""
    found = nearest(word, candidates)
    return f" Did you mean {found!r}?" if found else ""


def name_in_rankzero(name: str, candidates: Iterable[str]) -> str:
    """Return a sentence with the call that does what ``name`` does in another tool, or a similar name, or nothing."""
    call = OTHER_NAMES.get(name)
    return did_you_mean(name, candidates) if call is None else f" Write {call}."


_START = "run = rankzero.start(project=..., config=...)"
_METRICS = 'run.log_metrics({"loss": loss}, step)'
_PARAMS = "run.log_hyperparams(params)"
OTHER_NAMES = {
    "Api": "rankzero.read_run(run_dir)",
    "Artifact": "run.log_artifact(path)",
    "Audio": "run.log_audio(name, audios)",
    "Experiment": _START,
    "Histogram": "run.log_histogram(name, values)",
    "Image": "run.log_image(name, images)",
    "SummaryWriter": _START,
    "Table": "run.log_table(name, columns, data)",
    "Video": "run.log_video(name, videos)",
    "alert": "run.alert(title, text)",
    "add_figure": "run.log_figure(name, figure)",
    "add_histogram": "run.log_histogram(name, values)",
    "add_image": "run.log_image(name, images)",
    "add_scalar": _METRICS,
    "add_scalars": _METRICS,
    "add_text": "run.log_text(name, text)",
    "config": _PARAMS,
    "end": "run.finish()",
    "end_run": "run.finish()",
    "finish": "run.finish()",
    "init": _START,
    "log": _METRICS,
    "log_dict": _METRICS,
    "log_metric": _METRICS,
    "log_metrics": _METRICS,
    "log_model": 'run.log_checkpoint(path, aliases=["best"])',
    "log_param": _PARAMS,
    "log_parameter": _PARAMS,
    "log_parameters": _PARAMS,
    "log_params": _PARAMS,
    "save": "run.log_artifact(path)",
    "set_experiment": 'run = rankzero.start(project="...")',
    "set_tag": 'run.log_tags(["..."])',
    "set_tags": 'run.log_tags(["..."])',
    "start_run": _START,
    "stop": "run.finish()",
    "summary": 'run.define_metric("loss", summary="min")',
    "watch": "run.watch(model)",
}
"""Names of other tools → calls of rankzero."""


def _fold(word: str) -> str:
    return word.lower().replace("-", "_")
