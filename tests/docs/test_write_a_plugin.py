"""The plugin of the how-to can be built, installed and used by name."""

import os
import subprocess
import sys

import pytest

from rankzero.testing import CAPABILITIES
from rankzero.testing.samples import KINDS

from .test_samples import ROOT, blocks, caption_of

TESTING = ROOT / "docs" / "reference" / "testing.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process that finds the plugin, and rankzero itself, installed."""
    project, site = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("site")
    for _, content in blocks(ROOT / "docs" / "how-to" / "write-a-plugin.md"):
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


def test_plugin_can_be_chosen_by_name(installed, tmp_path):
    program = (
        "import rankzero\n"
        "with rankzero.start('lines', path='out.txt', config={'lr': 0.1}) as run:\n"
        "    run.log_metrics({'loss': 0.5, 'note': 'a text'}, step=0)\n"
    )
    run(["-c", program], installed, tmp_path)
    assert '"loss": 0.5' in (tmp_path / "out.txt").read_text()


def test_plugin_is_known_to_the_command_line(installed, tmp_path):
    assert "lines" in run(["-m", "rankzero.cli", "loggers"], installed, tmp_path)
    assert "lines: ok" in run(["-m", "rankzero.cli", "check", "lines"], installed, tmp_path)


def rows(heading):
    """The first two cells of each row of the table under a heading of the reference."""
    section = TESTING.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1] for cells in lines}


def test_reference_lists_the_capabilities():
    assert rows("Capabilities") == dict(CAPABILITIES)


def test_reference_says_what_to_read_back_for_each_kind():
    assert list(rows("What `read_back` returns")) == KINDS
