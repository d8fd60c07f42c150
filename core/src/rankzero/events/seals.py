"""Seals: sign a user's own runs with a key, so that they are recognised later.

The key is in the user's state directory, ``$XDG_STATE_HOME/rankzero/key`` or ``~/.local/state/rankzero/key``, which
other users cannot read. So another user cannot forge a run that looks like one of this user's, nor change where a
sealed run is delivered. The seal covers the run's directory, too, so that it cannot be copied to another run.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rankzero.files.writing import read_own, state_directory, temporary_in
from rankzero.waiting import wait_until

log = logging.getLogger("rankzero")

_SIZE = 32  # bytes of the key
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def seal(run_id: str, run_dir: str, loggers: Mapping[str, Any]) -> str:
    """Return the seal of a run; if the user has no key, log a warning once and return an empty text. Never raises."""
    try:
        return _seal(_read_key() or _make_key(), run_id, run_dir, loggers)
    except Exception as error:
        _warn(str(error) or type(error).__name__)
        return ""


def is_sealed(run_id: str, run_dir: str, loggers: Mapping[str, Any], sealed: str) -> bool:
    """Return whether this user's ``start()`` recorded these loggers for this run in this directory."""
    if not sealed:
        return False
    import hmac

    try:
        key = _read_key()
        ours = _seal(key, run_id, run_dir, loggers) if key else ""
    except (OSError, ValueError):
        return False
    return hmac.compare_digest(ours.encode(), sealed.encode())


def _seal(key: bytes, run_id: str, run_dir: str, loggers: Mapping[str, Any]) -> str:
    try:
        from _blake2 import blake2b  # hashlib takes milliseconds to import, and loads OpenSSL
    except ImportError:
        from hashlib import blake2b
    return blake2b(msgspec.json.encode([run_id, run_dir, loggers], order="sorted"), key=key, digest_size=16).hexdigest()


def _read_key() -> bytes | None:
    """Return the key; None if there is none or it is invalid.

    Raises:
        OSError: the key cannot be read, or belongs to another user.
    """
    path = _key_file()
    try:
        key = read_own(path)
    except FileNotFoundError:
        return None
    owner = os.lstat(path).st_uid
    if owner != os.geteuid() and not (os.geteuid() == 0 and owner == os.stat(os.path.expanduser("~")).st_uid):
        raise PermissionError(f"{path} belongs to another user")
    return key if len(key) == _SIZE else None


def _make_key() -> bytes:
    path = _key_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with temporary_in(path.parent) as beside:
        _write(beside, os.urandom(_SIZE))
        _link(beside, path)
        if not _await_key():  # truncated by a full disk or a crash
            os.replace(beside, path)
    if key := _await_key():
        return key
    raise OSError(f"{path} cannot be written")


def _await_key() -> bytes | None:
    return wait_until(_read_key, timeout=0.15, every=0.03)  # another process may be writing it


def _link(beside: Path, path: Path) -> None:
    with suppress(FileExistsError):  # another process was faster
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            _write(path, beside.read_bytes())


def _write(path: Path, key: bytes) -> None:
    with open(os.open(path, _NEW, 0o600), "wb") as file:
        file.write(key)


def _key_file() -> Path:
    return state_directory() / "key"


@functools.cache
def _warn(why: str) -> None:
    log.warning(
        "runs that are started here cannot be marked as yours (%s), so rankzero sync will ask before it delivers them "
        "where their journals say",
        why,
    )
