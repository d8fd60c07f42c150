"""The code samples of the README and the documentation run, page by page, top to bottom.

Python blocks run in one namespace; a block with a caption is written to a file of that name; in a console block each
line that starts with "$ " is a command that must succeed, unless it installs something. The pages about hosted trackers
have a server on loopback.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from servers.comet_server import CometServer
from servers.neptune_server import NeptuneServer
from servers.wandb_server import WandbServer

ROOT = Path(__file__).parents[2]
SERVERS = ("comet", "neptune", "wandb")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("[!_]*/*.md"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(t.info.strip(), t.content) for t in MarkdownIt().parse(page.read_text()) if t.type == "fence"]


def caption_of(content: str) -> str | None:
    first = content.partition("\n")[0]
    return first.removeprefix(":caption: ") if first.startswith(":caption: ") else None


def run_console(content: str) -> None:
    for line in content.splitlines():
        command = line.removeprefix("$ ")
        if line.startswith("$ ") and not command.startswith("pip "):
            done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_samples_run(page, tmp_path, monkeypatch, request):
    if page.stem in SERVERS:
        request.getfixturevalue(f"{page.stem}_server")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    namespace: dict[str, object] = {"__name__": f"sample_{page.stem}"}
    for number, (info, content) in enumerate(blocks(page)):
        if info.startswith("{code-block}") and (caption := caption_of(content)):
            Path(caption).write_text(content.partition("\n")[2].lstrip("\n"))
        elif info == "python" and "RUN_ID" not in content:
            exec(compile(content, f"{page.name}[{number}]", "exec"), namespace)
        elif info == "console":
            run_console(content)


def test_pages_have_samples():
    assert sum(len(blocks(page)) for page in PAGES) > 20
