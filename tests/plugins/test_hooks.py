"""Hooks, with an installed plugin."""

import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

import rankzero
from rankzero.events.structs import Metrics, Params
from rankzero.plugins import hookspecs
from rankzero.plugins.registry import get_plugins

PACKAGE = Path(__file__).parents[1] / "plugins_for_tests" / "rankzero-diary"
HOOKS = [name for name in vars(hookspecs) if name.startswith("rankzero_")]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A directory of installed packages, with the plugin in it."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([*pip, *options, str(PACKAGE)], check=True)
    return target


@pytest.fixture
def plugins(site, monkeypatch):
    monkeypatch.delenv("RANKZERO_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(site))
    get_plugins.cache_clear()
    yield get_plugins()
    get_plugins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("rankzero_diary")]:
        del sys.modules[name]


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(dir=tmp_path, name="digits", id="r1")


@pytest.fixture
def caught():
    """All warnings, including those that Python shows only once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def diary(run):
    return (run.dir / "diary.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.slow
def test_installed_plugin_is_listed_without_being_imported(plugins):
    found = plugins.available()
    assert (found["diary"].kind, found["diary-logger"].kind) == ("hooks", "logger")
    assert (found["diary"].distribution, found["diary"].version) == ("rankzero-diary", "1.2.3")
    assert not any(name.startswith("rankzero_diary") for name in sys.modules)


def test_hooks_are_called(plugins, run):
    assert plugins.load_hooks() == []
    plugins.notify("rankzero_run_started", run=run)
    plugins.notify("rankzero_run_finished", run=run, status="success")
    failed = {"run_info": run, "logger": "csv", "error": OSError("disk full")}
    plugins.notify("rankzero_delivery_failed", **failed, retrying=True)
    plugins.notify("rankzero_delivery_failed", **failed, retrying=False)
    assert diary(run) == [
        "started digits",
        "finished digits: success",
        "csv: disk full (trying again)",
        "csv: disk full (given up)",
    ]


def test_hooks_in_a_loggers_module_are_called_if_the_logger_is_chosen(plugins, run):
    plugins.load_hooks()
    assert plugins.load_logger("diary-logger")(title="x").name == "x"
    plugins.notify("rankzero_run_started", run=run)
    assert diary(run) == ["started digits", "the logger's module was told too"]


def test_loading_twice_calls_once(plugins, run):
    plugins.load_hooks()
    plugins.load_hooks()
    plugins.notify("rankzero_run_started", run=run)
    assert diary(run) == ["started digits"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Metrics(1.0, 3, {"val_loss": 0.5, "acc": 0.9}), Metrics(1.0, 3, {"acc": 0.9, "val/loss": 0.5})),
        (Metrics(1.0, 3, {"debug/x": 1.0}), None),
        (Params(1.0, {"email": "a@b.c", "lr": 0.1}), Params(1.0, {"email": "(redacted)", "lr": 0.1})),
    ],
    ids=["rename", "drop", "redact"],
)
def test_a_filter_changes_and_drops_events(plugins, run, event, expected):
    plugins.load_hooks()
    assert plugins.event_filter(run)(event) == expected


def test_without_filters_there_is_no_filter_function(plugins, run):
    assert plugins.event_filter(run) is None


def adding(letter, **options):
    """A plugin whose filter adds its letter to the name of each metric."""

    def add(event):
        return Metrics(event.time, event.step, {f"{key}{letter}": 1 for key in event.values})

    return SimpleNamespace(rankzero_event_filter=hookspecs.hookimpl(lambda run: add, **options))


def test_filters_are_applied_in_the_order_of_registration(plugins, run):
    for letter in "abc":
        plugins.manager.register(adding(letter), letter)
    plugins.manager.register(adding("z", trylast=True), "z")
    plugins.manager.register(adding("d"), "d")
    plugins.manager.register(adding("0", tryfirst=True), "0")
    assert plugins.event_filter(run)(Metrics(0.0, 0, {"m": 1})).values == {"m0abcdz": 1}


@pytest.mark.parametrize("wrong", [lambda event: 1 / 0, lambda event: "not an event"])
def test_a_filter_that_raises_loses_nothing_and_is_named_once(plugins, run, wrong, caught):
    plugins.manager.register(adding("a"), "first")
    broken = SimpleNamespace(rankzero_event_filter=hookspecs.hookimpl(lambda run: wrong))
    plugins.manager.register(broken, "broken-filter")
    plugins.manager.register(adding("b"), "last")
    filtered = plugins.event_filter(run)
    for _ in range(3):
        assert filtered(Metrics(0.0, 0, {"m": 1})).values == {"mab": 1}
    assert ["broken-filter" in str(each.message) for each in caught] == [True]


def test_a_hook_that_raises_does_not_affect_others(plugins, run, caught):
    def fail(run):
        raise RuntimeError("no such host")

    plugins.manager.register(SimpleNamespace(rankzero_run_started=hookspecs.hookimpl(fail)), "broken")
    plugins.load_hooks()
    plugins.notify("rankzero_run_started", run=run)
    plugins.notify("rankzero_run_started", run=run)
    assert diary(run) == ["started digits", "started digits"]
    assert len(caught) == 1
    assert "'broken'" in str(caught[0].message)
    assert "RuntimeError: no such host" in str(caught[0].message)


TRAINING = """
import sys, rankzero
run = rankzero.start("diary-logger", refuses=True, dir=sys.argv[1], name="digits", config={"email": "a@b.c"})
run.log_metrics({"val_loss": 0.5, "debug/x": 1}, step=1)
run.log_metrics({"debug/x": 1}, step=2)
run.finish("success")
print(run.dir)
"""


def test_hooks_in_a_real_run(site, tmp_path):
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(site)}
    result = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    run = SimpleNamespace(dir=Path(result.stdout.strip()))
    assert sorted(diary(run)) == [
        "diary-logger: the page is full (given up)",  # by the courier, at any time
        "finished digits: success",
        "started digits",
        "the logger's module was told too",
    ]
    journal = (run.dir / "journal.jsonl").read_text(encoding="utf-8")
    assert "a@b.c" not in journal
    assert "debug" not in journal
    assert '"val/loss":0.5' in journal


def test_hooks_in_a_courier_process(site, tmp_path):
    script = (
        "import sys; from types import SimpleNamespace as N; from rankzero.plugins.registry import get_plugins\n"
        "plugins = get_plugins(); problems = plugins.load_hooks()\n"
        "plugins.notify('rankzero_run_started', run=N(dir=sys.argv[1], name='digits')); print(problems)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    result = subprocess.run(command, env={"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
    assert diary(SimpleNamespace(dir=tmp_path)) == ["started digits"]


def test_every_hook_is_implemented_by_the_plugin():
    source = (PACKAGE / "src" / "rankzero_diary" / "hooks.py").read_text(encoding="utf-8")
    assert [name for name in HOOKS if f"\ndef {name}(" not in source] == []


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented(name):
    hook = getattr(hookspecs, name)
    text = inspect.getdoc(hook)
    assert [each for each in inspect.signature(hook).parameters if f"    {each}: " not in text] == []
    assert f"... def {name}(" in text


@pytest.fixture
def register():
    manager = get_plugins().manager
    registered = []

    def register(implementation):
        manager.register(implementation)
        registered.append(implementation)

    yield register
    for implementation in registered:
        manager.unregister(implementation)


def test_data_that_a_hook_logs_when_a_run_ends_belongs_to_the_run(tmp_path, register):
    class Last:
        @rankzero.hookimpl
        def rankzero_run_finished(self, run, status):
            run.log_metrics({"last": 1.0}, 7)
            run.finish("failed")  # it is ending already, and this ends it

    register(Last())
    run = rankzero.start([], dir=tmp_path)
    run.finish("success")
    types = [msgspec.json.decode(line)["type"] for line in (run.dir / "journal.jsonl").read_bytes().splitlines()]
    assert types == ["start", "metrics", "finish"]


def test_a_hook_that_exits_does_not_end_the_script_or_other_hooks(tmp_path, register):
    told = []

    class Exits:
        @rankzero.hookimpl
        def rankzero_run_finished(self, run):
            raise SystemExit(3)

    class Listens:
        @rankzero.hookimpl
        def rankzero_run_finished(self, run, status):
            told.append(status)

    register(Exits())
    register(Listens())
    run = rankzero.start([], dir=tmp_path)
    with pytest.warns(UserWarning, match="failed in rankzero_run_finished"):
        run.finish("success")
    assert told == ["success"]


def test_a_run_imports_only_the_hooks_of_unused_plugins(tmp_path):
    code = """
import sys, rankzero
rankzero.start([], dir=sys.argv[1], capture_environment=False).finish()
print(*[name for name in sys.modules if name.startswith("rankzero_")])
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RANKZERO_")}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, text=True, check=True
    )
    plugins = ["comet", "mlflow", "neptune", "tensorboard", "wandb"]
    assert set(done.stdout.split()) == {f"rankzero_{name}{part}" for name in plugins for part in ("", ".importing")}
