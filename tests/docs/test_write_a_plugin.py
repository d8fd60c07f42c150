"""The plugin of the how-to can be built, installed and used by name."""

import inspect
import os
import subprocess
import sys

import pytest

from rankzero import Logger
from rankzero.testing import CAPABILITIES
from rankzero.testing.samples import KINDS

from .test_samples import ROOT, blocks, caption_of

PAGE = ROOT / "docs" / "how-to" / "write-a-plugin.md"
ROWS_CONTRACT = """
import json
import sqlite3
from contextlib import closing
from unittest import mock

from rankzero.testing import LoggerContract, Tracked
from rankzero_rows import TABLES, RowsLogger


class TestRowsLogger(LoggerContract):
    capabilities = frozenset(
        "nan float64 signed_zero big_ints any_name order repeated_steps times typed_params acknowledges resume "
        "several_runs exactly_once".split()
    )

    def make_logger(self, tmp_path):
        return RowsLogger(str(tmp_path / "rows.db"))

    def read_back(self, logger):
        tracked = Tracked()
        with closing(sqlite3.connect(logger.options["path"])) as database:
            database.executescript(TABLES)
            chosen = "SELECT kind, name, step, value, time FROM logged WHERE run = ?"
            for kind, name, step, value, time in database.execute(chosen, [logger.version]):
                if kind == "metric":
                    tracked.add_metric(name, step, json.loads(value), time)
                else:
                    tracked.params[name] = json.loads(value)
        return tracked

    def break_tracker(self, logger):
        return mock.patch("sqlite3.connect", side_effect=OSError("the disk is full"))
"""
TESTING = ROOT / "docs" / "reference" / "testing.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process that finds the plugin, and rankzero itself, installed."""
    project, site = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("site")
    for _, content in blocks(PAGE):
        if caption := caption_of(content):
            (project / caption).write_text(content.partition("\n")[2].lstrip("\n"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(site)]
    subprocess.run([*pip, *options, str(project)], check=True)
    assert (site / "rankzero_lines.py").exists()
    assert not (site / "test_rankzero_lines.py").exists()
    return {**os.environ, "PYTHONPATH": str(site)}


def run(command, environment, directory):
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def verbs(owner):
    """Name and arguments of each public method, without annotations."""
    for name, function in vars(owner).items():
        if inspect.isfunction(function) and not name.startswith("_"):
            parameters = list(inspect.signature(function).parameters.values())[1:]
            arguments = ", ".join(str(each.replace(annotation=each.empty)) for each in parameters)
            yield f"{name}({arguments})"


def test_the_page_has_the_signature_of_every_verb():
    (listed,) = (content for info, content in blocks(PAGE) if info == "text")
    tools = ("at(", "as_files(", "agg_and_log_metrics(", "update_agg_funcs(", "note_use(", "numbers_and_others(")
    assert sorted(listed.splitlines()) == sorted(each for each in verbs(Logger) if not each.startswith(tools))


@pytest.mark.slow
def test_the_logger_that_buffers_keeps_the_contract(installed, tmp_path):
    (logger,) = (content for info, content in blocks(PAGE) if caption_of(content) == "rankzero_rows.py")
    (tmp_path / "rankzero_rows.py").write_text(logger.partition("\n")[2])
    (tmp_path / "test_rows.py").write_text(ROWS_CONTRACT)
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_rows.py"], installed, tmp_path)
    assert "failed" not in done


def test_plugin_can_be_chosen_by_name(installed, tmp_path):
    program = (
        "import rankzero\n"
        "with rankzero.start('lines', path='out.txt', config={'lr': 0.1}) as run:\n"
        "    run.log_metrics({'loss': 0.5, 'note': 'a text'}, step=0)\n"
    )
    run(["-c", program], installed, tmp_path)
    assert '"loss": 0.5' in (tmp_path / "out.txt").read_text()


def test_plugin_is_known_to_the_command_line(installed, tmp_path):
    assert "lines" in run(["-m", "rankzero.cli.app", "loggers"], installed, tmp_path)
    assert "lines: ok" in run(["-m", "rankzero.cli.app", "check", "lines"], installed, tmp_path)


def rows(heading):
    """The first two cells of each row of the table under a heading of the reference."""
    section = TESTING.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1] for cells in lines}


def test_reference_lists_the_capabilities():
    assert rows("Capabilities") == dict(CAPABILITIES)


def test_reference_lists_the_data_to_read_back_for_each_kind():
    assert list(rows("What `read_back` returns")) == KINDS
