"""Runs in a real Jupyter kernel: cells that are run again, interrupted or fail, and the HTML of a run."""

import sys
from types import SimpleNamespace

import pytest
from waiting import A_WHILE, until

import rankzero
from rankzero.events.structs import Status
from rankzero.journal.tail import read_events
from rankzero.run import notebooks
from rankzero.rundir.layout import JOURNAL

START = "run = rankzero.start(project='p', run_id={!r}, delivery='off')"
TRAIN = """
import asyncio, time
for step in range(10**6):
    run.log_metrics({"loss": 1.0})
    time.sleep(0.01)
"""


class Kernel:
    """A kernel, as a notebook's frontend uses it."""

    def __init__(self, manager, client):
        self.manager = manager
        self.client = client
        self.displayed = ""
        self.printed = ""

    def send(self, code, cell=None):
        """Begin to run a cell."""
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        request = self.client.session.msg("execute_request", content, metadata={"cellId": cell} if cell else None)
        self.client.shell_channel.send(request)
        self.request = request["header"]["msg_id"]

    def wait(self):
        """Wait until the cell has ended; return the name of its error."""
        self.displayed = self.printed = ""
        error = None
        while True:
            message = self.client.get_iopub_msg(timeout=A_WHILE)
            content = message["content"]
            if message["parent_header"].get("msg_id") != self.request:
                continue
            if message["msg_type"] == "stream":
                self.printed += content["text"]
            elif message["msg_type"] == "execute_result":
                self.displayed = content["data"]["text/html"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return error
            elif message["msg_type"] == "error":
                error = content["ename"]

    def run(self, code, cell=None):
        self.send(code, cell)
        return self.wait()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("jupyter")))
        started, client = manager.start_new_kernel(startup_timeout=A_WHILE)
        kernel = Kernel(started, client)
        yield kernel
        client.stop_channels()
        started.shutdown_kernel(now=True)


@pytest.fixture
def notebook(kernel, tmp_path):
    """A kernel whose runs are kept in a directory of the test, and are over when it ends."""
    assert kernel.run(f"import os, rankzero; os.environ['RANKZERO_DIR'] = {str(tmp_path)!r}") is None
    yield kernel
    kernel.run("from rankzero.run import endings\nfor each in list(endings._open_runs): each.finish()")


def status(tmp_path, run_id):
    return rankzero.read_run(tmp_path / "p" / run_id).status


@pytest.mark.parametrize("cell", ["c1", None], ids=["with the cell's id", "by its text"])
def test_a_cell_that_is_run_again_ends_the_run_that_it_started(notebook, tmp_path, cell):
    code = "import itertools; count = globals().get('count') or itertools.count()\n" + START.replace(
        "{!r}", "str(next(count))"
    )
    notebook.run(code, cell)
    assert notebook.run("run.log_metrics({'loss': 1.0})", cell and "c2") is None
    assert notebook.run(code, cell) is None
    assert "which this cell started before, is still open; it is ended now" in notebook.printed
    assert (status(tmp_path, "0"), status(tmp_path, "1")) == ("success", "running")
    notebook.run("del count")


def test_a_cell_that_resumes_a_run_by_its_id_can_be_run_again(notebook, tmp_path):
    for _ in range(2):
        assert notebook.run(START.format("r1") + "\nrun.log_metrics({'loss': 1.0})", "c1") is None
    assert rankzero.read_run(tmp_path / "p" / "r1").metrics["loss"].step.tolist() == [0, 1]


def test_runs_of_other_cells_and_of_the_same_execution_stay_open(notebook, tmp_path):
    notebook.run(START.format("r1") + "\n" + START.format("r2"), "c1")
    assert "is still open" not in notebook.printed
    notebook.run(START.format("r3"), "c2")
    assert notebook.printed.count("is still open; end it with run.finish()") == 2
    assert {status(tmp_path, each) for each in ("r1", "r2", "r3")} == {"running"}


def interrupt(notebook, tmp_path):
    journal = tmp_path / "p" / "r1" / JOURNAL
    until(lambda: journal.exists() and b'"metrics"' in journal.read_bytes())
    notebook.manager.interrupt_kernel()
    assert notebook.wait() in ("KeyboardInterrupt", "CancelledError")


@pytest.mark.parametrize("sleep", ["time.sleep", "await asyncio.sleep"])
def test_the_run_of_an_interrupted_cell_is_aborted(notebook, tmp_path, sleep):
    notebook.send(START.format("r1") + TRAIN.replace("time.sleep", sleep))
    interrupt(notebook, tmp_path)
    assert status(tmp_path, "r1") == "aborted"


def test_a_run_stays_open_and_aborted_if_another_cell_was_interrupted_while_logging_to_it(notebook, tmp_path):
    notebook.run(START.format("r1"))
    notebook.send(TRAIN)
    interrupt(notebook, tmp_path)
    assert status(tmp_path, "r1") == "running"
    assert "ends as aborted unless" in notebook.printed
    notebook.run("run.finish()")
    assert status(tmp_path, "r1") == "aborted"


def test_how_the_last_cell_ended_that_logged_to_a_run_counts(notebook, tmp_path):
    for run_id, cells, expected in (
        ("r1", ["run.log_metrics({'loss': 1.0}); 1 / 0"], "failed"),
        ("r2", ["run.log_metrics({'loss': 1.0}); 1 / 0", "run.log_metrics({'loss': 1.0})"], "success"),
        ("r3", ["1 / 0"], "success"),
    ):
        notebook.run(START.format(run_id))
        for cell in cells:
            notebook.run(cell)
        notebook.run("run.finish()")
        assert status(tmp_path, run_id) == expected
    statuses = [event for _, event in read_events(tmp_path / "p" / "r3" / JOURNAL) if isinstance(event, Status)]
    assert statuses == []


def test_a_run_is_shown_as_html(notebook, tmp_path):
    notebook.run("run = rankzero.start(name='<b>&', project='p', run_id='r1', delivery='off'); run")
    assert "<strong>&lt;b&gt;&amp;</strong> · p · running<br><code>r1</code>" in notebook.displayed
    assert str(tmp_path / "p" / "r1") in notebook.displayed
    assert "<iframe srcdoc=" not in notebook.displayed  # nothing is logged yet
    notebook.run("run.log_metrics({'loss': 1}); run")
    assert '<iframe srcdoc="&lt;!DOCTYPE html&gt;' in notebook.displayed
    assert 'sandbox="allow-scripts allow-downloads"' in notebook.displayed
    notebook.run("run.finish('failed'); run")
    assert "· failed<br>" in notebook.displayed


def test_only_an_address_of_the_web_becomes_a_link():
    views = {"a": 'https://example.org/?a=1&b="2"', "b": "javascript:alert(1)"}
    html = notebooks.as_html("n", "p", "i", "d", "running", views)
    assert '<a href="https://example.org/?a=1&amp;b=&quot;2&quot;" target' in html
    assert "<code>javascript:alert(1)</code>" in html


def test_without_ipython_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(notebooks, "_open_runs", lambda: pytest.fail("looked at"))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    notebooks.end_run_of_same_cell()
