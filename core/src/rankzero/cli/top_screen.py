"""The screen of ``rankzero top``, drawn by Textual."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Input, Static

from rankzero.reader.watching import WatchedRuns

_EVERY = 2.0  # seconds
_SHOWN_EVERY = 0.5  # seconds, while many runs are read for the first time
_MOST_SLACK = 4  # characters
_LEFT = ("run", "trackers", "metrics", "project", "metric", "trend")

Rows = Mapping[str, Mapping[str, str]]
"""The key of each row → its cells by heading, in rich's markup."""


class Asked(NamedTuple):
    """What the user wants to see."""

    run: str | None = None
    """The key of the selected run."""
    runs: str = ""
    """Words that a run must have."""
    metrics: str = ""
    """Words that a metric must have."""
    has_ended: bool = False
    """Whether to show runs that ended lately, too."""
    width: int = 80
    """The width of the screen in characters."""


class Contents(NamedTuple):
    """What the screen shows."""

    title: str
    runs: Rows
    facts: str
    """What is between the tables, in rich's markup."""
    metrics: Rows


class Table(DataTable):  # type: ignore[misc]  # to mypy, Textual is Any
    """A table in which a row stays selected, and of which only the cells that changed are drawn anew."""

    BINDINGS: ClassVar = [
        Binding("up", "cursor_up", "Select", key_display="arrows"),
        Binding("enter,tab", "app.focus_next", "Other table", key_display="⏎"),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row")
        self._shown: Rows = {}

    @property
    def selected(self) -> str | None:
        """The key of the selected row."""
        return [*self._shown][self.cursor_row] if self.is_valid_row_index(self.cursor_row) else None

    def fill(self, rows: Rows) -> None:
        """Show these rows."""
        before, selected, self._shown = self._shown, self.selected, rows
        headings = [*next(iter(rows.values()), ())]
        if headings and headings != [key.value for key in self.columns]:
            self.clear(columns=True)
            before = {}
        if [*before] != [*rows]:
            self._replace(rows, selected)
        else:
            for key, cells in rows.items():
                for heading, cell in cells.items():
                    if cell != before[key][heading]:
                        self.update_cell(key, heading, _text(heading, cell))
        if rows:
            self._fit()

    def _replace(self, rows: Rows, selected: str | None) -> None:
        self.clear()
        for key, cells in rows.items():
            if not self.columns:
                for heading in cells:
                    self.add_column(_text(heading, heading), key=heading)
            self.add_row(*map(_text, cells, cells.values()), key=key)
        if selected in rows:
            self.move_cursor(row=self.get_row_index(selected))

    def _fit(self) -> None:
        """Make columns as wide as their longest cells, or a little wider, so that they do not jump to and fro."""
        for heading, column in [(key.value, column) for key, column in self.columns.items()]:
            key = max(self._shown, key=lambda each: self.get_cell(each, heading).cell_len)
            text = self.get_cell(key, heading)
            width = max(text.cell_len, column.label.cell_len)
            if not 0 <= column.content_width - width <= _MOST_SLACK:
                column.content_width = width  # Textual may draw before it measures, and keep what it drew
                self.update_cell(key, heading, text, update_width=True)


def _text(heading: str, markup: str) -> Text:
    text = Text.from_markup(markup, emoji=False)
    text.justify = "left" if heading in _LEFT else "right"
    return text


class Top(App):  # type: ignore[misc]  # to mypy, Textual is Any
    """A table of runs, and one of the metrics of the selected run.

    A thread reads the runs, so that no slow disk keeps a key from working.

    Args:
        watched: the runs.
        contents: returns what to show of them.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Table { height: 1fr; scrollbar-size-horizontal: 0; }
    Table:focus { height: 2fr; }
    Table > .datatable--header { background: ansi_default; text-style: bold; }
    #runs:blur > .datatable--cursor { background: ansi_bright_black; }
    #metrics:blur > .datatable--cursor { background: ansi_default; }
    #title { padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    #facts { max-height: 50%; padding: 1 1 0 1; }
    #words { display: none; }
    """
    BINDINGS: ClassVar = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("escape", "no_filter", "No filter", key_display="esc"),
        Binding("a", "ended", "Ended runs"),
    ]

    def __init__(self, watched: WatchedRuns, contents: Callable[[WatchedRuns, Asked], Contents]) -> None:
        super().__init__()
        self.animation_level = "none"
        self.failure: Exception | None = None
        """The mistake in this program because of which it ended."""
        self._watched, self._contents = watched, contents
        self._asked, self._filtered = Asked(), "runs"
        self._is_asked, self._is_over = threading.Event(), threading.Event()

    def compose(self) -> Any:
        """Make the widgets, from top to bottom."""
        yield Static("reading …", id="title", markup=False)
        yield Table(id="runs")
        yield Static(id="facts")
        yield Table(id="metrics")
        yield Input(id="words", compact=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to read."""
        self.theme = "ansi-dark"  # the terminal's own colors
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.exit)
        threading.Thread(target=self._read, daemon=True).start()

    def on_unmount(self) -> None:
        """End the thread."""
        self._is_over.set()
        self._is_asked.set()

    def on_data_table_row_highlighted(self, message: Any) -> None:
        """Show the metrics of another run."""
        if message.data_table.id == "runs":
            self._ask(run=message.data_table.selected)

    def on_resize(self, event: Any) -> None:
        """Show what fits."""
        self._ask(width=event.size.width)

    def action_ended(self) -> None:
        """Show the runs that ended lately, or hide them."""
        self._ask(has_ended=not self._asked.has_ended)

    def action_filter(self) -> None:
        """Ask for the words of a filter."""
        words = self.query_one(Input)
        self._filtered = "metrics" if self.query_one("#metrics").has_focus else "runs"
        words.placeholder = f"words of {self._filtered}"
        words.value, words.display = getattr(self._asked, self._filtered), True
        words.focus()

    def on_input_changed(self, message: Any) -> None:
        """Show only what has the words."""
        self._ask(**{self._filtered: message.value})

    def on_input_submitted(self, message: Any) -> None:
        """Go back to the table."""
        message.input.display = False
        self.query_one(f"#{self._filtered}").focus()

    def action_no_filter(self) -> None:
        """Go back to the table of runs, and show all of them."""
        self.query_one(Input).display = False
        self.query_one("#runs").focus()
        self._ask(runs="", metrics="")

    def _ask(self, **wanted: Any) -> None:
        asked = self._asked._replace(**wanted)
        if asked != self._asked:
            self._asked = asked
            self._is_asked.set()

    def _read(self) -> None:
        try:
            due = 0.0
            while not self._is_over.is_set():
                self._is_asked.clear()
                if not self.is_headless and not os.isatty(0):  # the terminal is gone, and Textual would not end
                    os._exit(1)
                if time.monotonic() >= due:
                    self._update()
                    due = time.monotonic() + _EVERY
                self._draw()
                self._is_asked.wait(max(0.0, due - time.monotonic()))
        except Exception as error:
            if not self._is_over.is_set():
                self.failure = error
                self.call_later(self.exit, return_code=1)

    def _update(self) -> None:
        drawn = time.monotonic()
        for _ in self._watched.update():
            if self._is_over.is_set():
                return
            if time.monotonic() > drawn + _SHOWN_EVERY:
                self._draw()
                drawn = time.monotonic()

    def _draw(self) -> None:
        self.call_later(self._show, self._contents(self._watched, self._asked))

    def _show(self, contents: Contents) -> None:
        if not self.query("#title"):  # the program is ending
            return
        self.query_one("#title", Static).update(contents.title)
        self.query_one("#runs", Table).fill(contents.runs)
        self.query_one("#facts", Static).update(Text.from_markup(contents.facts, emoji=False))
        self.query_one("#metrics", Table).fill(contents.metrics)
