"""Loops drawn by tqdm: as one line of a terminal, and as the bars of a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from rankzero.capture.console import unheard
from rankzero.recorder.progress_loops import ShownLoop
from rankzero.recorder.terminal_line import Render


def tqdm_line() -> Render:
    """Return what renders a loop as ``epoch 3:  25%|██▌       | 12/48 [00:10<00:30,  1.20it/s, loss=0.1234]``."""
    from tqdm.std import tqdm
    from tqdm.utils import disp_trim

    is_unicode = (getattr(sys.stderr, "encoding", None) or "").lower().startswith("utf")

    def render(description: str, loop: ShownLoop, metrics: Sequence[str], columns: int) -> str:
        line = tqdm.format_meter(
            loop.done,
            loop.total,
            loop.elapsed,
            ncols=columns,
            prefix=description,
            ascii=not is_unicode,
            postfix=", ".join(metrics),
        )
        return str(disp_trim(line, columns))  # tqdm 4.66 does not, where there is no total

    return render


class NotebookBars:
    """A screen of one bar for each loop; what is shown at last stays."""

    def __init__(self) -> None:
        from tqdm.auto import tqdm

        # Without the thread that draws bars which have not moved for long.
        self._make: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
        self._bars: dict[ShownLoop, Any] = {}

    def show(self, loops: Sequence[ShownLoop], metrics: Sequence[str]) -> None:
        with unheard():  # without widgets, they are text on standard error
            for gone in self._bars.keys() - set(loops):
                self._bars.pop(gone).close()
            for loop in loops:
                if loop not in self._bars:
                    self._bars[loop] = self._make(desc=loop.description, total=loop.total, leave=False)
            if loops:
                self._refresh(loops[-1], metrics)

    def _refresh(self, loop: ShownLoop, metrics: Sequence[str]) -> None:
        bar = self._bars[loop]
        bar.n = loop.done
        bar.start_t = time.time() - loop.elapsed
        bar.set_postfix_str(", ".join(metrics), refresh=False)
        bar.refresh()

    def close(self) -> None:
        with unheard():
            for bar in self._bars.values():
                bar.leave = True
                bar.close()
        self._bars.clear()
