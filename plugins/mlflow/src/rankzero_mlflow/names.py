"""Convert names to names that MLflow accepts; different names stay different.

A character that is not allowed becomes its code point in hexadecimal between two marks: ``loss [x]`` becomes
``loss :5B:x:5D:`` as the name of a metric. A valid name is unchanged; one that is too long ends with a part of its
SHA-256.
"""

from __future__ import annotations

import hashlib
import posixpath
import re

LONGEST = 250
"""Characters in the name of a metric, param or tag."""

LONGEST_TAG = 5000
"""Characters in the value of a tag that every MLflow server accepts."""

RUN_TAG = "rankzero.run_id"
"""The tag with the id of the rankzero run, by which its MLflow run is found."""

NAME_TAG = "rankzero.name."
"""The tag ``rankzero.name.<name in MLflow>`` contains the original of a changed name."""

_LONGEST_PART = 150  # bytes in a part of a path: file systems allow 255, and MLflow extends the key of an image
_DIGEST = 16


def metric_name(name: str) -> str:
    """Return the name of a metric, param or tag: letters, digits, ``_ - . : /`` and space, at most 250 of them."""
    safe = _escape(name, r"[^\w\-. /:]", ":", ":")
    longest = LONGEST if safe == name else LONGEST - len(NAME_TAG)
    if len(safe) <= longest:
        return safe
    return f"{safe[: LONGEST - len(NAME_TAG) - _DIGEST - 1]}:{_digest(name)}"


def path_name(name: str) -> str:
    """Return a name for a part of an artifact's path; ``/`` in it makes folders."""
    return "/".join(_short(part, "~") for part in _escape(name, r"[^\w\-. /=~]|^ | $", "~", "~").split("/"))


def image_name(name: str) -> str:
    """Return the key of an image; MLflow's image grid accepts only ASCII."""
    return _short(_escape(name, r"[^a-zA-Z0-9_\-. /]", "_x", "_"), "_x")


def _escape(name: str, refused: str, opening: str, closing: str) -> str:
    looks_escaped = f"{opening}([0-9A-F]+|empty){closing}"
    if not _is_plain_path(name):  # "..", "/loss", "a//b"
        refused += "|[/.]"
    elif not re.search(f"{refused}|{looks_escaped}", name):
        return name
    opens = f"{opening[0]}(?={opening[1:]})"
    escaped = re.sub(f"{refused}|{opens}", lambda found: f"{opening}{ord(found[0]):X}{closing}", name)
    return escaped or f"{opening}empty{closing}"


def _is_plain_path(name: str) -> bool:
    return posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."


def _short(part: str, mark: str) -> str:
    encoded = part.encode()
    if len(encoded) <= _LONGEST_PART:
        return part
    return encoded[: _LONGEST_PART - _DIGEST - len(mark)].decode(errors="ignore") + mark + _digest(part)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
