"""The reference names everything in the code, and nothing else."""

import inspect
import re
from pathlib import Path

import pytest
from docs.cli_reference import render
from test_imports import ROOMS

import rankzero
from rankzero.config import resolving
from rankzero.config.logger_options import START_PARAMETERS
from rankzero.events.structs import EVENT_TYPES
from rankzero.plugins import hookspecs

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCES = sorted((ROOT / "core/src/rankzero").rglob("*.py"))


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text()


def first_column(text: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))


def test_every_public_name_is_documented():
    text = page("api") + page("reading") + page("loggers")
    documented = set(re.findall(r"auto(?:function|class|data):: rankzero\.(\w+)$", text, flags=re.MULTILINE))
    assert documented == set(rankzero.__all__)


def test_every_environment_variable_is_documented():
    used = {name for path in SOURCES for name in re.findall(r"RANKZERO_[A-Z_]+", path.read_text())}
    assert first_column(page("environment")) == used


def test_every_setting_is_documented():
    assert first_column(page("config")) == set(resolving._FIELDS)


def test_start_takes_every_setting():
    assert set(START_PARAMETERS) == (set(resolving._FIELDS) - {"disabled"}) | {"config"}


def test_every_hook_is_documented_with_an_example():
    hooks = [name for name in vars(hookspecs) if name.startswith("rankzero_")]
    assert hooks
    assert "automodule:: rankzero.plugins.hookspecs" in page("hooks")
    for name in hooks:
        doc = inspect.getdoc(getattr(hookspecs, name))
        assert f">>> @rankzero.hookimpl\n    ... def {name}(" in doc


def test_every_event_is_documented():
    members = re.search(r":members: (.*?)\n   :exclude", page("run-directory"), flags=re.DOTALL)
    assert members is not None
    assert set(re.findall(r"\w+", members[1])) == {each.__name__ for each in EVENT_TYPES}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("[!_]*/*.md")), ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(((?!http)[^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_command_line_reference_matches_the_commands():
    assert page("cli") == render(), "run: python tests/docs/cli_reference.py > docs/reference/cli.md"


def test_the_architecture_page_has_every_package_in_the_order_of_imports():
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    packages = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert packages == [name for name in ROOMS if name != "rankzero" and "." not in name]


def test_the_architecture_page_names_files_that_exist():
    text = (ROOT / "docs/explanation/architecture.md").read_text()
    paths = re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.py|/))`", text)
    missing = [path for path in paths if not any((ROOT / top / path).exists() for top in ("core/src/rankzero", "."))]
    assert len(paths) > 20
    assert missing == [], "correct docs/explanation/architecture.md: these files have other names now"
