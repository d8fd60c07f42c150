"""A run of events, and a browser for pages; tests with one are skipped where it is not installed."""

import shutil

import pytest
import recorded

from rankzero.events.run_info import RunInfo
from rankzero.events.structs import Start

INFO = RunInfo("a1", "amber-otter-12", "digits", "/elsewhere", ("first",), "a note", 100.0)
START = Start(100.0, INFO, {"csv": {"plugin": "csv", "options": {}}})
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def chromium():
    """Start a headless Chromium; for a module only, because other tests cannot run an event loop meanwhile."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: nox installs it")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def write(tmp_path):
    """Append events (or raw lines) to the journal of a run, and return the run's directory."""

    def write(*events):
        recorded.write(tmp_path / "run", *events)
        return tmp_path / "run"

    return write


@pytest.fixture
def open_page(chromium, tmp_path):
    """Open a page; whatever it requests of a network, and every error in it, fails the test."""
    problems, requests, contexts = [], [], []

    def open_page(path, fragment="", width=1280, height=900, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: problems.append(f"a script ran: {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{path if isinstance(path, str) else path.as_uri()}{fragment}")
        page.wait_for_selector("body[data-ready]")
        return page

    open_page.problems = problems
    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
    assert [each for each in requests if not each.startswith(("file://", "blob:", "data:", "http://127.0.0.1:"))] == []
