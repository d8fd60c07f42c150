"""`EventWriter`: appends the events of a run to its journal."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Console, Event, encode, encode_lines
from rankzero.journal.append import Journal
from rankzero.messages import OnceWarner
from rankzero.rundir.layout import JOURNAL


class EventWriter:
    """Appends the events of a run to its journal, unless the event filters of plugins drop them.

    Raises:
        OSError: the journal cannot be opened.
    """

    def __init__(self, info: RunInfo) -> None:
        self.journal = Journal(Path(info.dir) / JOURNAL)
        self.filter: Callable[[Event], Event | None] | None = None
        self.is_finished = False
        """Whether the run has ended; the couriers do not deliver what is written from then on."""
        self.info = info
        self._warner = OnceWarner()

    def write(self, event: Event, *, is_expected: bool = False) -> None:
        """Append an event; if the run has ended, log a warning, unless the event ``is_expected``.

        Raises:
            msgspec.ValidationError: a value of the event has a wrong type.
        """
        if self.filter is not None and event.is_logged:
            filtered = self.filter(event)
            if filtered is None:
                return
            event = filtered
        if self.is_finished and not is_expected:
            self._warner.warn(
                "finished",
                f"the run {self.info.name} is finished; what is logged now is kept in its journal, and delivered only "
                f"by: rankzero sync {shlex.quote(self.info.dir)}",
            )
        self.journal.append(encode(event))

    def write_console(self, event: Console) -> None:
        """Append printed text; this is faster than `write`, because its types need no check."""
        try:
            line = encode_lines([event]) if self.filter is None else None
        except ValueError:  # a lone surrogate
            line = None
        if line is None:
            self.write(event)
        else:
            self.journal.append(line)
