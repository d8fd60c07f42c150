"""Discovery of plugins: entry points, imports, error messages."""

import os
import subprocess
import sys
import time
import zipfile
from importlib.metadata import distribution, entry_points

import pytest
from installed import write_plugin

from rankzero.errors import (
    BrokenPluginError,
    ConfigError,
    DuplicatePluginError,
    PluginNotInstalledError,
    UnknownLoggerError,
)
from rankzero.plugins import registry
from rankzero.plugins.entry_points import find_entry_points
from rankzero.plugins.registry import Plugins, get_plugins, known_loggers

LOGGER = "class Tracker:\n    pass\n"
HOOK = "from rankzero.plugins.hookspecs import hookimpl\ncalls = []\n@hookimpl"
KNOWN = sorted(known_loggers())


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.delenv("RANKZERO_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    get_plugins.cache_clear()
    yield
    get_plugins.cache_clear()
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def install(tmp_path):
    """Write the files of an installed distribution."""

    def install(*args, place=tmp_path, **kwargs):
        write_plugin(place, *args, **kwargs)

    return install


def test_csv_is_found_by_its_entry_point_like_any_plugin():
    found = Plugins().available()["csv"]
    assert (found.kind, found.distribution, found.target) == (
        "logger",
        "rankzero",
        "rankzero.loggers.csv.logger:CSVLogger",
    )


def test_listing_imports_nothing(install):
    install(
        "some-tracker",
        {"some": "some_tracker:Tracker", "notes": "some_hooks"},
        some_tracker="1/0",
        some_hooks="1/0",
    )
    found = Plugins().available()
    assert (found["some"].kind, found["notes"].kind) == ("logger", "hooks")
    assert found["some"].version == "1.0"
    assert found["some"].problem is None
    assert "some_tracker" not in sys.modules


def test_only_the_chosen_plugin_is_imported(install):
    install("one", {"one": "one_tracker:Tracker"}, one_tracker=LOGGER)
    install("two", {"two": "two_tracker:Outer.Inner"}, two_tracker="class Outer:\n    class Inner: pass\n")
    plugins = Plugins()
    assert plugins.load_logger("two").__name__ == "Inner"
    assert "one_tracker" not in sys.modules
    assert plugins.load_logger("two") is plugins.load_logger("two")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import rankzero.not_there", "rankzero.not_there"),
        ("import tracker_code.not_there", "tracker_code.not_there"),
        ("other = 1", "Tracker"),
        ("def Tracker(): pass", "not a class"),
    ],
)
def test_a_broken_plugin_is_named_and_does_not_affect_others(install, code, reason):
    install("bad-tracker", {"bad": "tracker_code:Tracker"}, "2.1", tracker_code=code)
    install("good", {"good": "good_code:Tracker"}, good_code=LOGGER)
    plugins = Plugins()
    with pytest.raises(BrokenPluginError) as raised:
        plugins.load_logger("bad")
    for expected in ("'bad'", "bad-tracker 2.1", "tracker_code:Tracker", reason):
        assert expected in str(raised.value)
    assert plugins.load_logger("good").__name__ == "Tracker"
    assert plugins.available()["bad"].problem == str(raised.value)
    assert plugins.available()["good"].problem is None


@pytest.mark.parametrize(
    ("requires", "command"),
    [
        ([], "pip install sdk_of_tracker"),
        (["msgspec", "the-sdk>=2"], 'pip install "the-sdk>=2"'),
        (['the-sdk; python_version < "3"'], "pip install sdk_of_tracker"),
    ],
)
def test_a_missing_sdk_is_reported_with_the_pip_command(install, requires, command):
    install("t", {"t": "t_code:T"}, requires=requires, t_code="import sdk_of_tracker.api\n")
    with pytest.raises(PluginNotInstalledError, match="No module named 'sdk_of_tracker'") as raised:
        Plugins().load_logger("t")
    assert str(raised.value).endswith(command)
    assert isinstance(raised.value, ModuleNotFoundError)


def test_a_repaired_plugin_loads(install, tmp_path):
    install("t", {"t": "t_code:T"}, t_code="import late_sdk\nclass T: pass\n")
    plugins = Plugins()
    with pytest.raises(PluginNotInstalledError):
        plugins.load_logger("t")
    (tmp_path / "late_sdk.py").write_text("")
    assert plugins.load_logger("t").__name__ == "T"
    assert plugins.available()["t"].problem is None


def test_a_plugin_that_was_installed_later_loads(install):
    plugins = Plugins()
    with pytest.raises(UnknownLoggerError):
        plugins.load_logger("late")
    install("late", {"late": "late_code:Tracker"}, late_code=LOGGER)
    assert plugins.load_logger("late").__name__ == "Tracker"


def test_two_plugins_with_one_name_are_refused_and_named(install):
    install("first", {"same": "first_code:Tracker", "only": "first_code:Tracker"}, first_code=LOGGER)
    install("second", {"same": "second_code:Tracker"}, "3.0", second_code=LOGGER)
    plugins = Plugins()
    with pytest.raises(DuplicatePluginError) as raised:
        plugins.load_logger("same")
    for expected in ("'same'", "first 1.0", "second 3.0", "pip uninstall first or pip uninstall second"):
        assert expected in str(raised.value)
    assert plugins.available()["same"].problem == str(raised.value)
    assert plugins.load_logger("only").__name__ == "Tracker"


def test_uninstalling_one_of_two_duplicates_helps(install, tmp_path):
    install("first", {"same": "first_code:Tracker"}, first_code=LOGGER)
    install("second", {"same": "second_code:Tracker"}, second_code=LOGGER)
    plugins = Plugins()
    with pytest.raises(DuplicatePluginError):
        plugins.load_logger("same")
    (tmp_path / "second-1.0.dist-info" / "entry_points.txt").unlink()
    assert plugins.load_logger("same").__module__ == "first_code"


def test_one_distribution_on_two_paths_counts_once(install, tmp_path, monkeypatch):
    install("My.Tracker", {"t": "t_code:Tracker"}, "2.0", t_code=LOGGER)
    install("my-tracker", {"t": "old_code:Tracker"}, "1.0", place=tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    assert Plugins().available()["t"].version == "1.0"
    assert Plugins().available()["t"].problem is None


@pytest.fixture
def installed_from(monkeypatch):
    """Set the recorded origin of distributions."""
    kind = type(distribution("rankzero"))  # some SDKs have their own finders of distributions
    read_text = kind.read_text

    def note(text):
        replaced = {"direct_url.json": text}
        monkeypatch.setattr(
            kind,
            "read_text",
            lambda self, name: replaced[name] if name in replaced else read_text(self, name),
        )

    registry._source.cache_clear()
    yield note
    registry._source.cache_clear()


@pytest.mark.parametrize(
    ("origin", "source"),
    [
        (None, "rankzero"),
        ('{"url": "file:///tmp", "dir_info": {}}', "/tmp"),
        ('{"url": "file:///no%20such/core", "dir_info": {"editable": true}}', "rankzero"),
        ('{"url": "file:///tmp", "archive_info": {}}', "rankzero"),
    ],
    ids=["index", "checkout", "checkout that is gone", "wheel"],
)
def test_plugins_are_installed_from_the_same_source_as_rankzero(installed_from, origin, source):
    installed_from(origin)
    assert {*known_loggers().values()} == {f'pip install "{source}[{name}]"' for name in KNOWN}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_logger_that_is_not_installed(name, monkeypatch):
    only_core = [each for each in find_entry_points() if each.distribution == "rankzero"]
    monkeypatch.setattr("rankzero.plugins.registry.find_entry_points", lambda: only_core)
    with pytest.raises(PluginNotInstalledError, match=rf'{name}.*pip install "\S*\[{name}\]"'):
        Plugins().load_logger(name)


def test_core_knows_the_trackers_of_its_extras():
    assert len(KNOWN) >= 5
    assert not {"all", "data", "demo"} & set(KNOWN)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("CSV", "csv"),
        ("cvs", "csv"),
        ("some_tracke", "some-tracker"),
        *((f"{name}x", name) for name in KNOWN),
    ],
)
def test_an_unknown_name_suggests_the_nearest(install, wrong, right):
    install("some", {"some-tracker": "some_code:Tracker"})
    with pytest.raises(UnknownLoggerError, match=f"Did you mean '{right}'.*Installed:.* csv.*some-tracker") as raised:
        Plugins().load_logger(wrong, source="rankzero.toml")
    assert "rankzero.toml" in str(raised.value)


def test_a_plugin_with_hooks_is_not_a_logger(install):
    install("h", {"notes": "h_code"}, h_code="")
    with pytest.raises(UnknownLoggerError, match="is a plugin with hooks"):
        Plugins().load_logger("notes")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1/0", "ZeroDivisionError"),
        (
            f"{HOOK}\ndef rankzero_run_begun(run): 0",
            "'rankzero_run_begun'. Did you mean 'rankzero_run_started'",
        ),
        (f"{HOOK}\ndef rankzero_run_started(runn): 0", "runn"),
        (f"{HOOK}(wrapper=True)\ndef rankzero_run_started(run): yield", "wrapper"),
    ],
    ids=["import", "unknown hook", "unknown argument", "wrapper"],
)
def test_broken_hooks_are_reported_once_and_do_not_affect_others(install, code, reason):
    good = f"{HOOK}\ndef rankzero_run_started(run): calls.append(run)"
    code += "\nfrom good_hooks import calls\n@hookimpl\ndef rankzero_run_finished(run): calls.append('bad')"
    install("bad-hooks", {"bad": "bad_hooks"}, bad_hooks=code)
    install("good-hooks", {"good": "good_hooks"}, good_hooks=good)
    plugins = Plugins()
    (problem,) = plugins.load_hooks()
    assert isinstance(problem, BrokenPluginError)
    assert "bad-hooks 1.0" in str(problem)
    assert reason in str(problem)
    assert plugins.load_hooks() == []
    assert plugins.available()["bad"].problem == str(problem)
    plugins.notify("rankzero_run_started", run="r")
    plugins.notify("rankzero_run_finished", run="r", status="success")
    assert sys.modules["good_hooks"].calls == ["r"]


def test_optional_hook_of_another_version_is_allowed(install):
    install("h", {"h": "h_code"}, h_code=f"{HOOK}(optionalhook=True)\ndef rankzero_in_future(x): 0")
    assert Plugins().load_hooks() == []


@pytest.mark.parametrize(
    ("allowed", "seen"),
    [
        (None, {"csv", "one", "two"}),
        ("", {"csv"}),
        (" one , ", {"csv", "one"}),
        ("csv,two", {"csv", "two"}),
    ],
)
def test_allow_list(install, monkeypatch, allowed, seen):
    install("a", {"one": "one_code:Tracker"}, one_code=LOGGER)
    install("b", {"two": "two_code"}, two_code="1/0")
    if allowed is not None:
        monkeypatch.setenv("RANKZERO_PLUGINS", allowed)
    plugins = Plugins()
    assert seen <= plugins.available().keys()
    assert not {"one", "two"} - seen & plugins.available().keys()
    assert bool(plugins.load_hooks()) == ("two" in seen)
    if "one" not in seen:
        with pytest.raises(UnknownLoggerError, match="RANKZERO_PLUGINS does not allow"):
            plugins.load_logger("one")


def test_allow_list_with_an_unknown_name(install, monkeypatch):
    install("a", {"one-tracker": "one_code:Tracker"})
    monkeypatch.setenv("RANKZERO_PLUGINS", "one-traker")
    with pytest.raises(ConfigError, match=r"RANKZERO_PLUGINS names 'one-traker'.*Did you mean 'one-tracker'"):
        Plugins()


def test_allow_list_keeps_a_second_csv_out(install, monkeypatch):
    install("imitation", {"csv": "imitation_code:CSV"})
    assert "imitation" in Plugins().available()["csv"].problem
    monkeypatch.setenv("RANKZERO_PLUGINS", "")
    assert Plugins().available()["csv"].problem is None


def test_finds_what_importlib_finds(install, tmp_path, monkeypatch):
    install("in-a-zip", {"zipped": "zipped_code:Tracker"}, place=tmp_path / "z", zipped_code=LOGGER)
    archive = tmp_path / "plugin.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (tmp_path / "z").rglob("*"):
            file.write(path, path.relative_to(tmp_path / "z"))
    egg = tmp_path / "old_style.egg-info"
    egg.mkdir()
    (egg / "entry_points.txt").write_text("[rankzero]\n# a comment = x\nold=old_code : Tracker [extra]\n")
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: old-style\nVersion: 0.9\n")
    monkeypatch.syspath_prepend(str(archive))
    monkeypatch.syspath_prepend(str(tmp_path / "does-not-exist"))

    ours = {(each.name, each.module, each.attribute, each.version) for each in find_entry_points()}
    theirs = entry_points(group="rankzero")
    assert ours == {(each.name, each.module, each.attr or "", each.dist.version) for each in theirs}
    assert {name for name, *_ in ours} >= {"csv", "zipped", "old"}
    assert Plugins().load_logger("zipped").__name__ == "Tracker"


def test_import_hooks_of_other_packages_are_used(install, tmp_path, monkeypatch):
    install("hidden", {"hidden": "hidden_code:Tracker"}, place=tmp_path / "vault")

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return None

        @staticmethod
        def find_distributions(context):
            from importlib.metadata import MetadataPathFinder

            place = str(tmp_path / "vault")
            return MetadataPathFinder.find_distributions(type(context)(name=context.name, path=[place]))

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert Plugins().available()["hidden"].distribution == "hidden"


def test_a_run_without_hooks_does_not_load_them():
    """Neither pluggy nor importlib.metadata is imported for it."""
    script = (
        "import sys; from rankzero.plugins.registry import get_plugins; from rankzero.config.resolving import resolve\n"
        "plugins = get_plugins(); resolve(); plugins.load_hooks()\n"
        "plugins.notify('rankzero_run_started', run=None)\n"
        "costly = {'pluggy', 'importlib.metadata', 'yaml', 'difflib'}; print(*costly & sys.modules.keys())"
    )
    env = {**os.environ, "RANKZERO_PLUGINS": ""}
    result = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("", "")


def test_discovery_is_quick_among_many_distributions(install, tmp_path, monkeypatch):
    def seconds(find):
        began = time.thread_time()
        find()
        return time.thread_time() - began

    for number in range(150):
        install(f"filler-{number}", {}, place=tmp_path / "many")
    monkeypatch.syspath_prepend(tmp_path / "many")
    ours, pythons = (min(map(seconds, [find] * 9)) for find in (find_entry_points, entry_points))
    assert ours < pythons


def test_plugins_are_searched_once():
    assert get_plugins() is get_plugins()
