"""The code samples of the README and the documentation run, page by page, top to bottom.

Python blocks run in one namespace; a block with a caption is written to a file of that name; in a console block each
line that starts with "$ " is a command that must succeed, unless it installs something. An output block is what the
block before it printed, but for what `VARYING` masks; "…" stands for any text, and for any lines, or none, if it is
alone on a line. The pages about hosted trackers have a server on loopback.
"""

import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest
from markdown_it import MarkdownIt
from servers.comet_server import CometServer
from servers.neptune_server import NeptuneServer
from servers.wandb_server import WandbServer

ROOT = Path(__file__).parents[2]
SERVERS = ("comet", "neptune", "wandb")
VARYING = {
    r"\b[a-z]+-[a-z]+-\d+\b": "NAME",
    r"\b20\d{6}[0-9a-f]{24}\b": "ID",
    r"…[0-9a-f]{8}\b": "ID",
    r"\b\d{10}\.\d+\b": "TIME",
    r"\b\d\d:\d\d:\d\d\b": "CLOCK",
    r"\b\d+(\.\d+)? (s|min( \d+ s)?)(?= |$)": "DURATION",
    r"\b\d+ kB\b": "SIZE",
    r"/\S*/rankzero-runs": "/rankzero-runs",
    r"^(\$ .*|Python \d.*|.* · .* × .* GB)\n": "",  # a process of its own finds it out, perhaps too late
}
# They start many processes, or import many frameworks.
MANY_PROCESSES = ("comet", "mlflow", "move-history", "multi-gpu", "neptune", "several-processes", "wandb")
SLOW = (*MANY_PROCESSES, "frameworks", "lightning")
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md", *sorted((ROOT / "docs").glob("[!_]*/*.md"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(t.info.strip(), t.content) for t in MarkdownIt().parse(page.read_text()) if t.type == "fence"]


def caption_of(content: str) -> str | None:
    first = content.partition("\n")[0]
    return first.removeprefix(":caption: ") if first.startswith(":caption: ") else None


def run_console(content: str) -> str:
    printed = ""
    for line in content.splitlines():
        command = line.removeprefix("$ ").partition("  #")[0]
        if line.startswith("$ ") and not command.startswith("pip "):
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            done = subprocess.run(command, shell=True, **streams, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}"
            printed += done.stdout
    return printed


def assert_shown(expected: str, printed: str) -> None:
    shown = (re.escape(line).replace("…", ".*") + "\n" for line in masked(expected))
    pattern = "".join("(?:.*\n)*" if line == ".*\n" else line for line in shown)
    found = "".join(f"{line}\n" for line in masked(printed))
    assert re.fullmatch(pattern, found), f"the page shows:\n{expected}\nand what is printed is:\n{printed}"


def masked(text: str) -> list[str]:
    """The lines of a text without what differs from run to run and from machine to machine."""
    for pattern, name in VARYING.items():
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.fixture
def wandb_server(tmp_path, monkeypatch):
    import wandb

    with WandbServer() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("WANDB_DIR")
        wandb.teardown()
        yield server
        wandb.teardown()
        assert server.problems == []


@pytest.fixture
def comet_server(tmp_path, monkeypatch):
    with CometServer() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield server
        assert server.problems == []


@pytest.fixture
def neptune_server(tmp_path, monkeypatch):
    with NeptuneServer() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield server
        assert server.problems == []


@pytest.fixture(autouse=True)
def _environment():
    """Restore the environment: `mlflow.set_tracking_uri` changes it."""
    with mock.patch.dict(os.environ):
        yield


@pytest.mark.filterwarnings("ignore:CSVLogger has no tags")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] * (page.stem in SLOW), id=str(page.relative_to(ROOT)))
        for page in PAGES
    ],
)
def test_samples_run(page, tmp_path, monkeypatch, request):
    if page.stem in SERVERS:
        request.getfixturevalue(f"{page.stem}_server")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "100")
    namespace: dict[str, object] = {"__name__": f"sample_{page.stem}"}
    printed = ""
    for number, (info, content) in enumerate(blocks(page)):
        if info.startswith("{code-block}") and (caption := caption_of(content)):
            Path(caption).write_text(content.partition("\n")[2].lstrip("\n"))
        elif info == "python" and "RUN_ID" not in content:
            with redirect_stdout(StringIO()) as stdout:
                exec(compile(content, f"{page.name}[{number}]", "exec"), namespace)
            printed = stdout.getvalue()
        elif info == "console":
            printed = run_console(content)
        elif info == "output":
            assert_shown(content, printed)


def test_pages_have_samples():
    assert sum(len(blocks(page)) for page in PAGES) > 20
