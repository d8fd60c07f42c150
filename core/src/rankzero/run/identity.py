"""The id and name of a run, shared with other ranks without a collective operation.

Rank zero publishes them in a store that the ranks share, and other ranks read them there with a timeout. If the launch
has a key (see `rankzero.rank.launch_key`), the id is derived from it.
"""

from __future__ import annotations

import itertools
import os
import platform
import re
import time
import weakref
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.errors import ConfigError
from rankzero.processes import start_time
from rankzero.rank import group_store, is_rank_zero, launch_key, torchrun_store

_ID_LENGTH = 32  # a length that every tracker accepts
_LOOK_EVERY = 0.02
_SKEW = 3.0  # seconds; the largest difference between the clocks, or the starts of the ranks, of two machines
_VALID_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ADJECTIVES = [
    "amber", "bold", "brisk", "calm", "clear", "cosy", "crisp", "deft", "eager", "fair", "fleet", "fond",
    "gentle", "glad", "grand", "happy", "keen", "kind", "lively", "lucid", "mellow", "merry", "mild", "nimble",
    "noble", "plucky", "proud", "quick", "quiet", "rapid", "ready", "royal", "sharp", "shiny", "silent",
    "sleek", "smart", "snug", "solid", "steady", "still", "sunny", "swift", "tidy", "vivid", "warm", "wise",
    "witty",
]  # fmt: skip
_NOUNS = [
    "acorn", "alder", "badger", "beacon", "birch", "brook", "canyon", "cedar", "cliff", "cloud", "comb",
    "coral", "crane", "delta", "dune", "eagle", "ember", "falcon", "fern", "finch", "fjord", "forest", "glade",
    "harbor", "hawk", "heron", "island", "lagoon", "lark", "maple", "marten", "meadow", "otter", "owl",
    "pebble", "pine", "plover", "raven", "reef", "ridge", "river", "robin", "rook", "spruce", "summit",
    "thrush", "tundra", "willow",
]  # fmt: skip

UNKNOWN = "unknown"
"""The id and name of a run on a rank where they are unknown."""

_starts = itertools.count()


class Identity(msgspec.Struct, frozen=True):
    """The id, name and directory of a run, the same on all ranks of a job."""

    id: str
    name: str
    dir: str


def check_id(run_id: str) -> str:
    """Return ``run_id`` if it can name a directory.

    Raises:
        ConfigError: it cannot.
    """
    if not re.fullmatch(_VALID_ID, run_id):
        raise ConfigError(
            f"run_id {run_id!r} cannot name a run: use 1 to 128 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit"
        )
    return run_id


def next_start() -> int:
    """Return the number of runs that this process has started; equal on all ranks that run the same script."""
    return next(_starts)


def new_id(start: int, is_taken: Callable[[str], bool]) -> str:
    """Return an id for a new run: derived from the key of the launch, or from the time, so that ids sort by age."""
    launch = launch_key()
    if launch is not None:
        candidates = (_derived_id(launch, start, attempt) for attempt in itertools.count())
        return next(candidate for candidate in candidates if not is_taken(candidate))
    now = time.time()
    moment = time.strftime("%Y%m%d%H%M%S", time.gmtime(now)) + f"{int(now % 1 * 10_000):04}"
    return moment + os.urandom((_ID_LENGTH - len(moment)) // 2).hex()


def _derived_id(launch: str, start: int, attempt: int = 0) -> str:
    from hashlib import sha256  # loads OpenSSL, which most runs do not need

    return sha256(f"{launch}/{start}/{attempt}".encode()).hexdigest()[:_ID_LENGTH]


def name_of(run_id: str) -> str:
    """Return a readable name; always the same for an id."""
    number = zlib.crc32(run_id.encode()) * 2654435761  # a hash, so that similar ids get different names
    number, adjective = divmod(number, len(_ADJECTIVES))
    number, noun = divmod(number, len(_NOUNS))
    return f"{_ADJECTIVES[adjective]}-{_NOUNS[noun]}-{number % 1000}"


class _Note(msgspec.Struct, frozen=True):
    """The value that rank zero writes to a store."""

    identity: Identity
    time: float
    host: str


class Announcement:
    """Publishes the identity of a run for other ranks; called repeatedly, as a process group may be created later."""

    def __init__(self, start: int, identity: Identity) -> None:
        self._key = _key(start)
        self._identity = identity
        self._may_ask_torchrun = True
        self._published: Callable[[], Any] = lambda: None

    def publish(self) -> None:
        """Write the identity to the stores that are new since the last call; never raises or waits for a rank.

        Does nothing in a process that turns out not to be rank zero.
        """
        if not is_rank_zero():
            return
        if self._may_ask_torchrun:
            try:
                self._may_ask_torchrun = not self._put(torchrun_store())
            except Exception:
                self._may_ask_torchrun = False  # the store will not appear later, and trying costs seconds
        with suppress(Exception):
            store = group_store()
            if store is not self._published() and self._put(store):
                # A reference would keep the port of the store open after the process group is destroyed.
                self._published = weakref.ref(store)

    def _put(self, store: Any) -> bool:
        if store is None:
            return False
        note = _Note(self._identity, time.time(), platform.node())
        store.set(self._key, msgspec.json.encode(note))
        return True


def ask(start: int, timeout: float, run_dir_of: Callable[[str], Path]) -> Identity | None:
    """Return the identity that rank zero has published; None if it is unknown after ``timeout`` seconds."""
    announced = _read_announcement(_key(start), timeout)
    launch = launch_key()
    if announced is not None or launch is None:
        return announced
    run_id = _derived_id(launch, start)
    return Identity(run_id, name_of(run_id), str(run_dir_of(run_id)))


def _key(start: int) -> str:
    return f"rankzero/{start}"


def _read_announcement(key: str, timeout: float) -> Identity | None:
    stores = []
    for find in (torchrun_store, group_store):
        with suppress(Exception):
            stores.append(find())
    began = time.monotonic()
    while stores := [store for store in stores if store is not None]:
        waited = time.monotonic() - began
        for index, store in enumerate(stores):
            try:
                # Not wait(), which would block the store for all other threads of this process.
                note = msgspec.json.decode(store.get(key), type=_Note) if store.check([key]) else None
            except Exception:
                stores[index] = None
                continue
            if note is not None and _is_current(note, waited):
                return note.identity
        if waited > timeout:
            break
        time.sleep(_LOOK_EVERY)
    return None


def _is_current(note: _Note, waited: float) -> bool:
    # When torchrun restarts the ranks, it keeps its store with the value of the previous rank zero, which is older than
    # this process. The clocks of machines differ: a value that is only slightly older is accepted after a while.
    if note.host == platform.node():
        return note.time >= _born
    return note.time >= _born or (note.time >= _born - _SKEW and waited >= _SKEW)


def _process_start() -> float:
    if ticks := start_time(os.getpid()):
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")
    return time.time()


def _reset_after_fork() -> None:
    global _born
    _born = _process_start()


_born = _process_start()
os.register_at_fork(after_in_child=_reset_after_fork)  # launchers in notebooks fork their ranks
