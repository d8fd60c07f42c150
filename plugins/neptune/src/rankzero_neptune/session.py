"""What a logger asks of its run in Neptune, whoever delivers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable
from typing import Any, NamedTuple

from rankzero_neptune.paths import Paths
from rankzero_neptune.points import AS_TEXT, Point, Tail, Value
from rankzero_neptune.settings import Settings

Say = Callable[[str, str], None]
"""Called with a topic and a message; says it once for each topic."""

SERIES: dict[type[Any], str] = {float: "floatSeries", str: "stringSeries"}
"""Neptune's type of a series, by the type of its values."""


class Picture(NamedTuple):
    """A picture of a series."""

    file: str
    caption: str | None
    step: float | None
    time: int
    """Unix time in milliseconds."""


class Session(ABC):
    """Opens a run when it is first needed, and writes to it.

    Paths are those that are wished for; what is taken stays, and the new goes beside it.

    Args:
        settings: what the user said of the run.
        say: tells the user something once.
    """

    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings = settings
        self._say = say
        self.opening = 0
        """How often the run was forgotten: what was known of it may be wrong since."""
        self._forget()

    def _forget(self) -> None:
        """Be as before the run was opened."""
        self.opening += 1
        self._paths = Paths({}, self._say_moved)
        self._tails: dict[str, Tail] = {}

    # Who

    @property
    @abstractmethod
    def name(self) -> str | None:
        """The run's name, None before it is known."""

    @property
    @abstractmethod
    def short_id(self) -> str | None:
        """Neptune's id of the run in its project, ``OFFLINE``, or None before it is known."""

    @property
    @abstractmethod
    def url(self) -> str | None:
        """Where Neptune shows the run, None before that is known."""

    @property
    @abstractmethod
    def experiment(self) -> Any:
        """A ``neptune.Run``."""

    # Write

    @abstractmethod
    def log_points(self, path: str, points: list[Point]) -> None:
        """Add points to a series, whose values are all floats or all texts; what it cannot hold goes beside it."""

    @abstractmethod
    def log_picture(self, path: str, picture: Picture) -> None:
        """Add a picture to a series."""

    @abstractmethod
    def assign(self, path: str, value: bool | int | float | str) -> None:
        """Set a single value."""

    @abstractmethod
    def add_strings(self, path: str, values: Iterable[str]) -> None:
        """Add to a set of texts."""

    @abstractmethod
    def upload(self, path: str, file: str) -> None:
        """Keep a file as it is now, instead of what was there."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete what is under a path and below it, if anything."""

    @abstractmethod
    def keep_only(self, path: str, kept: Container[str]) -> None:
        """Delete what is under a path and below it, but not the paths to keep."""

    # Read

    @abstractmethod
    def texts_below(self, path: str) -> dict[str, str]:
        """Return the texts that stand right below a path, by their names there."""

    @abstractmethod
    def files_below(self, path: str) -> list[str]:
        """Return the paths of what is under a path or below it."""

    @abstractmethod
    def download(self, path: str, destination: str) -> None:
        """Download a file."""

    # Ended

    @abstractmethod
    def wait(self) -> None:
        """Return when Neptune has everything; raise `DeliveryError` if that does not come about."""

    @abstractmethod
    def end(self, path: str, status: str) -> None:
        """Note under a path how the run ended."""

    @abstractmethod
    def close(self) -> None:
        """Release everything."""

    # What fits into a series

    def _fitted(self, wished: str, points: list[Point]) -> Iterable[tuple[str, list[Point]]]:
        """Yield which points go to which series: what does not fit goes, as texts, to the one beside it."""
        path, refused = wished, points
        if not all(point.is_odd for point in points):
            kind = SERIES[_type_of(points)]
            path = self._paths.claim(wished, kind)
            fitting, refused = self._tail(path, kind, points).fit(points)
            if fitting:
                yield path, fitting
        late = [point for point in refused if not point.is_odd]
        if late:
            self._say(
                f"order {path}",
                f"Neptune takes only increasing steps: {path!r} got {late[0].step:.17g} late or again, which is text "
                f"in {path + AS_TEXT!r}, as are others like it",
            )
        if refused:
            yield from self._fitted(wished + AS_TEXT, [point.as_text for point in refused])

    def _tail(self, path: str, kind: str, points: list[Point]) -> Tail:
        if path not in self._tails:
            self._tails[path] = Tail(self._held_points(path, kind, min(point.time for point in points)))
        return self._tails[path]

    @abstractmethod
    def _held_points(self, path: str, kind: str, since: int) -> Iterable[Point]:
        """Return the newest points of a series, back to a time in milliseconds, if the run had it when opened."""

    def _say_moved(self, wished: str, path: str) -> None:
        self._say(f"path {wished}", f"there is something else at {wished!r} in Neptune; what is new is at {path!r}")


def _type_of(points: list[Point]) -> type[Value]:
    return str if isinstance(points[0].value, str) else float
