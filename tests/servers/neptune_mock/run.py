"""A stored run, and its decoded data."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from servers.neptune_mock.attributes import Attribute, File, FileSet, GitRef, Point, Series, StringSet, Value

_Kind = TypeVar("_Kind", bound=Attribute)


class Refused(Exception):
    """An operation cannot be applied, unlike the others of its request."""


@dataclass
class StoredRun:
    """One run.

    Args:
        idle_after: seconds without a request after which the run is no longer active.
    """

    id: str
    sys_id: str
    custom_id: str | None
    workspace: str
    project: str
    owner: str
    lock: threading.RLock
    idle_after: float
    created: dict[str, Any] = field(default_factory=dict)
    """What the client sent to create it."""
    attributes: dict[str, Attribute] = field(default_factory=dict)
    """Path → field, including ``sys/``."""
    heard: float = field(default_factory=time.time)
    """The time of the client's last request."""

    def __post_init__(self) -> None:
        texts = {"sys/id": self.sys_id, "sys/owner": self.owner, "sys/custom_run_id": self.custom_id}
        self.attributes.update({path: Value("string", text) for path, text in texts.items() if text is not None})
        self.attributes["sys/creation_time"] = Value("datetime", datetime.now(UTC))
        self.attributes["sys/trashed"] = Value("bool", False)
        self.attributes["sys/failed"] = Value("bool", False)
        if self.created.get("gitInfo"):
            self.attributes["source_code/git"] = GitRef(self.created["gitInfo"])
        self.hear()

    def hear(self) -> None:
        """Record a request of the client."""
        self.heard = time.time()
        now = datetime.fromtimestamp(self.heard, UTC)
        self.attributes["sys/modification_time"] = self.attributes["sys/ping_time"] = Value("datetime", now)

    def described(self) -> dict[str, Attribute]:
        """The fields, including those that change by themselves."""
        state = "running" if time.time() - self.heard < self.idle_after else "idle"
        return {**self.attributes, "sys/state": Value("experimentState", state)}

    def obtain(self, path: str, operation: str, kind: str, make: Callable[[], _Kind]) -> _Kind:
        """Return the field at a path, or create it.

        Raises:
            Refused: the field has another type.
        """
        found = self.attributes.get(path)
        if found is not None and found.type != kind:
            raise Refused(f"Cannot perform {operation} operation on {path}: Attribute is not a {kind}")
        if found is None:
            found = self.attributes[path] = make()
        return found  # type: ignore[return-value]

    @property
    def logged(self) -> dict[str, Attribute]:
        """The fields without ``sys/``, ``monitoring/`` and ``source_code/``."""
        own = ("sys/", "monitoring/", "source_code/")
        with self.lock:
            return {path: each for path, each in self.attributes.items() if not path.startswith(own)}

    def value(self, path: str) -> Any:
        """The value at a path; KeyError if there is none."""
        return self._typed(path, Value).value

    def values(self, prefix: str = "") -> dict[str, Any]:
        """Path without the prefix → single value."""
        found = self.logged
        return {
            path.removeprefix(prefix): each.value
            for path, each in found.items()
            if isinstance(each, Value) and path.startswith(prefix)
        }

    def series(self, path: str) -> list[Point]:
        """The points of a series, in order of arrival; KeyError if there is none."""
        with self.lock:
            return list(self._typed(path, Series).points)

    def strings(self, path: str) -> set[str]:
        """A set of strings; KeyError if there is none."""
        with self.lock:
            return set(self._typed(path, StringSet).values)

    @property
    def tags(self) -> set[str]:
        """The run's tags."""
        with self.lock:
            return self.strings("sys/tags") if "sys/tags" in self.attributes else set()

    def file(self, path: str) -> bytes:
        """The bytes of a file; KeyError if there is none."""
        return self._typed(path, File).content

    def files(self, path: str) -> dict[str, bytes]:
        """Path → content of a file set; KeyError if there is none."""
        with self.lock:
            return dict(self._typed(path, FileSet).files)

    def _typed(self, path: str, kind: type[_Kind]) -> _Kind:
        with self.lock:
            found = self.attributes[path]
        assert isinstance(found, kind), f"{path} is a {found.type}"
        return found
