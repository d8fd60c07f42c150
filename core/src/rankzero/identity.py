"""A run's id and name, and how the other ranks of a job learn them without a collective.

Rank zero puts them into the store that the ranks share anyway; who wants to know reads them there, with a
timeout. Where the launcher names the launch (see `rankzero.rank.launch_key`) the id follows from that name.
"""

from __future__ import annotations

import itertools
import os
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import msgspec

from rankzero.errors import ConfigError
from rankzero.rank import launch_key, rank_stores

_ID_LENGTH = 32  # the shortest that every tracker takes as an identity
_VALID_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ADJECTIVES = [
    "amber",
    "bold",
    "brisk",
    "calm",
    "clear",
    "cosy",
    "crisp",
    "deft",
    "eager",
    "fair",
    "fleet",
    "fond",
    "gentle",
    "glad",
    "grand",
    "happy",
    "keen",
    "kind",
    "lively",
    "lucid",
    "mellow",
    "merry",
    "mild",
    "nimble",
    "noble",
    "plucky",
    "proud",
    "quick",
    "quiet",
    "rapid",
    "ready",
    "royal",
    "sharp",
    "shiny",
    "silent",
    "sleek",
    "smart",
    "snug",
    "solid",
    "steady",
    "still",
    "sunny",
    "swift",
    "tidy",
    "vivid",
    "warm",
    "wise",
    "witty",
]
_NOUNS = [
    "acorn",
    "alder",
    "badger",
    "beacon",
    "birch",
    "brook",
    "canyon",
    "cedar",
    "cliff",
    "cloud",
    "comet",
    "coral",
    "crane",
    "delta",
    "dune",
    "eagle",
    "ember",
    "falcon",
    "fern",
    "finch",
    "fjord",
    "forest",
    "glade",
    "harbor",
    "hawk",
    "heron",
    "island",
    "lagoon",
    "lark",
    "maple",
    "marten",
    "meadow",
    "otter",
    "owl",
    "pebble",
    "pine",
    "plover",
    "raven",
    "reef",
    "ridge",
    "river",
    "robin",
    "rook",
    "spruce",
    "summit",
    "thrush",
    "tundra",
    "willow",
]

_starts = itertools.count()


class Identity(msgspec.Struct, frozen=True):
    """What all ranks of a job know of a run."""

    id: str
    name: str
    dir: str


def check_id(run_id: str) -> str:
    """Return ``run_id`` if it can be a directory's name.

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
    """Return how many runs this process has started; equal on all ranks that run the same script."""
    return next(_starts)


def new_id(start: int, is_taken: Callable[[str], bool]) -> str:
    """Return an id for a new run: by time, so that runs sort by age; or by the launcher's name of the launch."""
    launch = launch_key()
    if launch is not None:
        candidates = (_derived_id(launch, start, attempt) for attempt in itertools.count())
        return next(candidate for candidate in candidates if not is_taken(candidate))
    now = time.strftime("%Y%m%d%H%M%S", time.gmtime())
    return now + os.urandom((_ID_LENGTH - len(now)) // 2).hex()


def _derived_id(launch: str, start: int, attempt: int = 0) -> str:
    from hashlib import sha256  # loads OpenSSL, which most runs need not wait for

    return sha256(f"{launch}/{start}/{attempt}".encode()).hexdigest()[:_ID_LENGTH]


def name_of(run_id: str) -> str:
    """Return a name that people can say and remember; the same for the same id."""
    number = zlib.crc32(run_id.encode()) * 2654435761  # spread out, so that like ids get unlike names
    number, adjective = divmod(number, len(_ADJECTIVES))
    number, noun = divmod(number, len(_NOUNS))
    return f"{_ADJECTIVES[adjective]}-{_NOUNS[noun]}-{number % 1000}"


class Announcement:
    """Tells the other ranks the identity of one run; to be repeated when a process group comes up later."""

    def __init__(self, start: int, identity: Identity) -> None:
        self._key = str(start)
        self._value = msgspec.json.encode(identity)
        self._told = 0

    def tell(self) -> None:
        """Put the identity into the stores that are new since the last call; never fails, never waits for a rank."""
        with suppress(Exception):
            stores = rank_stores()
            if len(stores) > self._told:
                for store in stores:
                    store.set(self._key, self._value)
                self._told = len(stores)


def ask(start: int, timeout: float, run_dir_of: Callable[[str], Path]) -> Identity | None:
    """Return what rank zero announced, on another rank; None if it cannot be known within ``timeout`` seconds."""
    for store in rank_stores():
        with suppress(Exception):
            store.wait([str(start)], timedelta(seconds=timeout))
            return msgspec.json.decode(store.get(str(start)), type=Identity)
    launch = launch_key()
    if launch is None:
        return None
    run_id = _derived_id(launch, start)
    return Identity(run_id, name_of(run_id), str(run_dir_of(run_id)))
