"""How a user's own runs are recognised: ``start()`` seals what it writes down of the loggers with a key of the user's.

The key is in the user's state directory, ``$XDG_STATE_HOME/rankzero/key`` or ``~/.local/state/rankzero/key``, which
nobody else can read. So who sends somebody a run's directory cannot make it look like one that was started there, nor
change where a sealed one is to be delivered.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.files import read_own, state_directory

_SIZE = 32  # bytes of the key


def seal(run_id: str, loggers: Mapping[str, Any]) -> str:
    """Return the seal of a run's loggers; empty where the user has no directory for the key."""
    try:
        key = _read_key() or _make_key()
    except OSError:
        return ""
    return _seal(key, run_id, loggers) if key else ""


def is_sealed(run_id: str, loggers: Mapping[str, Any], sealed: str) -> bool:
    """Return whether this user's ``start()`` wrote down these loggers of this run."""
    import hmac

    key = _read_key() if sealed else None
    return key is not None and hmac.compare_digest(_seal(key, run_id, loggers).encode(), sealed.encode())


def _seal(key: bytes, run_id: str, loggers: Mapping[str, Any]) -> str:
    from hashlib import blake2b  # takes milliseconds to import

    return blake2b(msgspec.json.encode([run_id, loggers], order="sorted"), key=key, digest_size=16).hexdigest()


def _read_key() -> bytes | None:
    try:
        path = _key_file()
        key = read_own(path)
        is_ours = os.lstat(path).st_uid == os.geteuid()
    except OSError:
        return None
    return key if len(key) == _SIZE and is_ours else None


def _make_key() -> bytes | None:
    path = _key_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".key-{os.urandom(8).hex()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(os.urandom(_SIZE))
        with suppress(FileExistsError):  # another process was faster
            os.link(beside, path)
    finally:
        with suppress(OSError):
            beside.unlink()
    return _read_key()


def _key_file() -> Path:
    return state_directory() / "key"
