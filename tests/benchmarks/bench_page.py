"""A page of 100 runs with 10,000 points each: its size, the time to write it, and the first paint in Chromium.

Also the time of an update of the live page, which is the same for a short and a long journal.
"""

import math
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from measuring import Table

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Finish, Metrics, Start, encode, encode_lines
from rankzero.reader.index.run_index import index_run
from rankzero.reader.page.html import write_page
from rankzero.reader.page.packing import as_json
from rankzero.reader.page.payload import indexed_run
from rankzero.reader.view.live import LiveRuns

RUNS, POINTS = 100, 10_000
MOST_MEGABYTES = 10
MOST_SECONDS = 3  # with indexes, as the second time
MOST_TO_PAINT = 1
UPDATES, NEW = 30, 10
LONG = 500_000  # points of the long journal
MOST_TIMES_SHORT = 3


def write_runs(directory):
    for number in range(RUNS):
        run_dir = directory / f"{number:032x}"
        run_dir.mkdir()
        info = RunInfo(run_dir.name, f"run-{number}", "bench", str(run_dir), started=1.7e9 + number)
        noise = random.Random(number)
        rows = [Metrics(1.7e9 + n, n, {"loss": math.exp(-n / POINTS) + noise.random()}) for n in range(POINTS)]
        ends = encode(Start(1.7e9, info)), encode(Finish(1.8e9, "success"))
        (run_dir / "journal.jsonl").write_bytes(ends[0] + encode_lines(rows) + ends[1])


def write(directory, path):
    began = time.perf_counter()
    write_page([indexed_run(index_run(run_dir)) for run_dir in sorted(directory.iterdir())], path, 0)
    return time.perf_counter() - began


def seconds_to_update(directory, points):
    """Return the median seconds of an update, and the size of the response in bytes."""
    run_dir = directory / f"{points:032x}"
    run_dir.mkdir(parents=True)
    info = RunInfo(run_dir.name, "live", "bench", str(run_dir), started=1.7e9)
    rows = [Metrics(1.7e9 + n, n, {"loss": n / 3}) for n in range(points + UPDATES * NEW)]
    journal = run_dir / "journal.jsonl"
    journal.write_bytes(encode(Start(1.7e9, info)) + encode_lines(rows[:points]))
    runs = LiveRuns(run_dir)
    (entry,) = runs.news({}).values()
    seconds = []
    for first in range(points, len(rows), NEW):
        with open(journal, "ab") as file:
            file.write(encode_lines(rows[first : first + NEW]))
        began = time.perf_counter()
        (entry,) = runs.news({"0": (entry["offset"], entry["lines"])}).values()
        seconds.append(time.perf_counter() - began)
        assert len(entry["points"]["loss"]) == NEW
    return median(seconds), len(as_json(entry))


def seconds_to_paint(path):
    """Return the seconds until the first paint and until the curves are drawn; None without a browser."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if found is None:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        paints = []
        for _ in range(3):
            page = browser.new_page()
            page.goto(path.as_uri())
            page.locator(".chart canvas").first.wait_for()
            curves = page.evaluate("performance.now()")
            paints.append(
                (page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"), curves)
            )
            page.close()
        browser.close()
    return [milliseconds / 1000 for milliseconds in min(paints)]


def main():
    table = Table(f"a page of {RUNS} runs × {POINTS:,} points")
    with tempfile.TemporaryDirectory() as temporary:
        runs, path = Path(temporary, "runs"), Path(temporary, "page.html")
        runs.mkdir()
        write_runs(runs)
        table.show("written the first time, journals are read", write(runs, path), "s")
        table.show("written again, from the indexes", min(write(runs, path) for _ in range(3)), "s", MOST_SECONDS)
        table.show("size", path.stat().st_size / 1e6, "MB", MOST_MEGABYTES)
        paint = seconds_to_paint(path)
        if paint is None:
            print("  first paint: not measured, as Chromium or playwright is not installed")
        else:
            table.show("first paint in headless Chromium", paint[0], "s", MOST_TO_PAINT)
            table.show("first curves in headless Chromium", paint[1], "s")
        (short, _), (long, size) = (seconds_to_update(Path(temporary, "live"), points) for points in (5_000, LONG))
        table.show(f"live: {NEW} new points of a run of {LONG:,}", 1000 * long, "ms")
        table.show("live: times as long as of a run of 5,000", long / short, "×", MOST_TIMES_SHORT)
        table.show("live: size of the answer", size / 1000, "kB", 2)
    table.exit()


if __name__ == "__main__":
    sys.exit(main())
