"""Configuration: the precedence of sources, messages about mistakes, and where secrets are not written."""

import datetime
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import rankzero
from rankzero.config.logger_options import LoggerSpec, check_options, check_types
from rankzero.config.resolving import resolve
from rankzero.errors import ConfigError, MissingSecretError, UnknownOptionError
from rankzero.secrets import expand_secrets, is_secret, redact, secret_values

SECRET = "s3cr3t-value"


class Tracker:
    """A logger, as far as config looks at it."""

    def __init__(self, entity=None, log_model=False, offline=False):
        pass

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass


class OpenTracker(Tracker):
    def __init__(self, entity=None, log_model=False, **kwargs):
        pass


class DeclaredTracker(OpenTracker):
    known_options = frozenset({"group"})


class StrictTracker(Tracker):
    def __init__(self, workspace, *, api_key=None):
        pass


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A directory of its own, and an environment that says nothing."""
    for name in ("LOGGERS", "DIR", "RUN_ID", "DELIVERY", "DISABLED"):
        monkeypatch.delenv(f"RANKZERO_{name}", raising=False)
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options_of(config):
    return {spec.key: spec.options for spec in config.loggers}


def test_defaults(place):
    config = resolve()
    assert options_of(config) == {"csv": {}}
    assert (config.project, config.name, config.tags, config.notes) == ("default", None, [], None)
    assert config.dir == place / "rankzero-runs"
    assert (config.run_id, config.resume, config.delivery, config.disabled) == (
        None,
        "allow",
        "process",
        False,
    )


# --- the ways to say which loggers


@pytest.mark.parametrize(
    ("loggers", "expected"),
    [
        ("wandb", {"wandb": {}}),
        ([], {}),
        (["csv", "wandb"], {"csv": {}, "wandb": {}}),
        (("csv", "csv", "csv"), {"csv": {}, "csv-2": {}, "csv-3": {}}),
        (["csv-2", "csv", "csv"], {"csv-2": {}, "csv": {}, "csv-3": {}}),
        ({"csv": None, "wandb": True, "mlflow": False, "x": {}}, {"csv": {}, "wandb": {}, "x": {}}),
        ({"wandb": {"entity": "me"}}, {"wandb": {"entity": "me"}}),
        (["csv", {"wandb": {"entity": "me"}}], {"csv": {}, "wandb": {"entity": "me"}}),
        ([{"wandb": {"a": 1}}, {"wandb": {"a": 2}}], {"wandb": {"a": 1}, "wandb-2": {"a": 2}}),
        (OmegaConf.create({"wandb": {"a": [1, "${..b}"], "b": 2}}), {"wandb": {"a": [1, 2], "b": 2}}),
        (OmegaConf.create(["csv", {"wandb": None}]), {"csv": {}, "wandb": {}}),
        ({"wandb": OmegaConf.create({"a": {"b": 1}})}, {"wandb": {"a": {"b": 1}}}),
    ],
)
def test_loggers_argument(loggers, expected):
    config = resolve(loggers)
    assert options_of(config) == expected
    assert all(type(each) is dict for each in options_of(config).values())


def test_instances():
    first, second, third = Tracker(), Tracker(), Tracker()
    config = resolve([first, "csv", {"mine": second}, third])
    assert [(spec.key, spec.plugin, spec.instance) for spec in config.loggers] == [
        ("tracker", None, first),
        ("csv", "csv", None),
        ("mine", None, second),
        ("tracker-2", None, third),
    ]
    assert resolve(first).loggers[0].instance is first


@pytest.mark.parametrize(
    ("loggers", "message"),
    [
        (3, "must be a name, a list of names, or a mapping"),
        ([3.5], "not float"),
        ([["csv"]], "list within a list"),
        (Tracker, r"the class Tracker; pass an instance, Tracker\(...\)"),
        ({"wandb": "me"}, "options of 'wandb' must be a mapping.*not str"),
        ({1: {}}, "1 cannot be the name of a logger"),
        ("../x", "'../x' cannot be the name"),
        (
            {"loggers": "csv", "projct": "x"},
            r"start\(\): there is no setting 'projct'. Did you mean 'project'",
        ),
    ],
)
def test_wrong_loggers_argument(loggers, message):
    with pytest.raises(ConfigError, match=message):
        resolve(loggers)


def test_a_mapping_with_loggers_has_all_settings(place, monkeypatch):
    (place / "rankzero.toml").write_text('project = "from-file"\nnotes = "from-file"')
    monkeypatch.setenv("RANKZERO_LOGGERS", "mlflow")
    config = resolve(
        OmegaConf.create({"loggers": {"wandb": {"entity": "me"}}, "project": "p", "tags": ["a"]}), name="n"
    )
    assert options_of(config) == {"wandb": {"entity": "me"}}
    assert (config.project, config.tags, config.name, config.notes) == ("p", ["a"], "n", "from-file")


# --- options of the only logger


@pytest.mark.parametrize("loggers", ["wandb", ["wandb"], {"wandb": {"entity": "you", "offline": True}}])
def test_options_go_to_the_only_logger(loggers):
    (spec,) = resolve(loggers, options={"entity": "me"}).loggers
    assert spec.options["entity"] == "me"


@pytest.mark.parametrize(
    ("loggers", "options", "message"),
    [
        (
            ["csv", "wandb"],
            {"entity": SECRET},
            r'2 loggers \(csv, wandb\).*loggers={"csv": {...}, "wandb": {...}}',
        ),
        ([], {"entity": SECRET}, "no logger to take them"),
        (Tracker(), {"entity": SECRET}, "made already"),
        (["csv", "wandb"], {"projct": SECRET}, "no parameter 'projct'. Did you mean 'project'"),
    ],
)
def test_options_without_exactly_one_taker(loggers, options, message):
    with pytest.raises(UnknownOptionError, match=message) as raised:
        resolve(loggers, options=options)
    assert SECRET not in str(raised.value)


# --- who decides


FILE = """
project = "from-file"
name = "from-file"
group = "g"
tags = ["a", "b"]
dir = "runs"
delivery = "thread"
[loggers.wandb]
entity = "file"
offline = true
[loggers.mlflow]
"""


def test_file(place):
    (place / "rankzero.toml").write_text(FILE)
    config = resolve()
    assert options_of(config) == {"wandb": {"entity": "file", "offline": True}, "mlflow": {}}
    assert (config.project, config.group, config.tags, config.delivery) == ("from-file", "g", ["a", "b"], "thread")


def test_environment_beats_file(place, monkeypatch):
    (place / "rankzero.toml").write_text(FILE)
    monkeypatch.setenv("RANKZERO_LOGGERS", "csv, wandb")
    monkeypatch.setenv("RANKZERO_DIR", str(place / "env"))
    monkeypatch.setenv("RANKZERO_GROUP", "env")
    monkeypatch.setenv("RANKZERO_PARENT", "p1")
    monkeypatch.setenv("RANKZERO_RUN_ID", "r7")
    monkeypatch.setenv("RANKZERO_DELIVERY", "off")
    monkeypatch.setenv("RANKZERO_FINISH_TIMEOUT", "20")
    monkeypatch.setenv("RANKZERO_DISABLED", "TRUE")
    config = resolve()
    assert (config.finish_timeout, config.down_timeout) == (20.0, 5.0)
    assert options_of(config) == {"csv": {}, "wandb": {"entity": "file", "offline": True}}
    assert (config.dir, config.run_id, config.delivery, config.disabled) == (place / "env", "r7", "off", True)
    assert (config.project, config.group, config.parent) == ("from-file", "env", "p1")


def test_arguments_beat_environment_and_file(place, monkeypatch):
    (place / "rankzero.toml").write_text(FILE)
    monkeypatch.setenv("RANKZERO_LOGGERS", "csv")
    monkeypatch.setenv("RANKZERO_DELIVERY", "off")
    monkeypatch.setenv("RANKZERO_RUN_ID", "r7")
    config = resolve(
        {"wandb": {"entity": "arg", "group": "g"}},
        project="p",
        tags=("x",),
        delivery="process",
        run_id="r8",
        dir=Path("d"),
    )
    (spec,) = config.loggers
    assert spec.options == {"entity": "arg", "group": "g", "offline": True}
    assert [spec.where(each) for each in ("entity", "group", "offline")] == [
        "start()",
        "start()",
        "rankzero.toml [loggers.wandb]",
    ]
    assert (config.project, config.tags, config.delivery, config.run_id) == ("p", ["x"], "process", "r8")
    assert (config.name, config.dir) == ("from-file", place / "d")


@pytest.mark.parametrize(
    "name", ["RANKZERO_LOGGERS", "RANKZERO_DIR", "RANKZERO_RUN_ID", "RANKZERO_DELIVERY", "RANKZERO_DISABLED"]
)
def test_empty_variable_counts_as_not_set(name, monkeypatch):
    expected = resolve()
    monkeypatch.setenv(name, "")
    assert resolve() == expected


@pytest.mark.parametrize(("text", "disabled"), [("1", True), ("yes", True), ("On", True), ("0", False), ("no", False)])
def test_disabled(text, disabled, monkeypatch):
    monkeypatch.setenv("RANKZERO_DISABLED", text)
    assert resolve().disabled is disabled


# --- files


@pytest.mark.parametrize("name", ["rankzero.toml", "pyproject.toml"])
@pytest.mark.parametrize(("owner", "user", "is_obeyed"), [(7, 7, True), (0, 7, True), (8, 7, False), (8, 0, False)])
def test_a_file_of_another_user_is_not_obeyed(place, monkeypatch, name, owner, user, is_obeyed):
    section = "[tool.rankzero]\n" if name == "pyproject.toml" else ""
    (place / name).write_text(section + 'project = "theirs"')
    lstat = Path.lstat
    monkeypatch.setattr(Path, "lstat", lambda path: SimpleNamespace(st_uid=owner) if path.name == name else lstat(path))
    monkeypatch.setattr("os.geteuid", lambda: user)
    with nullcontext() if is_obeyed else pytest.warns(UserWarning, match="belongs to another user"):
        assert resolve().project == ("theirs" if is_obeyed else "default")
    assert resolve(loggers=place / name).project == "theirs"  # it was named


def test_nearest_file_upward(place, monkeypatch):
    inner = place / "package" / "deep"
    inner.mkdir(parents=True)
    (place / "rankzero.toml").write_text('project = "outer"\ndir = "runs"')
    (inner.parent / "pyproject.toml").write_text('[project]\nname = "rankzero-user"')
    monkeypatch.chdir(inner)
    assert resolve().project == "outer"
    assert resolve().dir == place / "runs"  # counts from the file
    assert resolve(dir="runs").dir == inner / "runs"
    (inner.parent / "pyproject.toml").write_text('[tool.rankzero]\nproject = "inner"')
    assert resolve().project == "inner"
    (inner.parent / "rankzero.toml").write_text('project = "own"')
    assert resolve().project == "own"


@pytest.mark.parametrize("stop", ["git", "home"])
def test_search_stops(place, monkeypatch, stop):
    inner = place / "inner"
    inner.mkdir()
    (place / "rankzero.toml").write_text('project = "outside"')
    if stop == "git":
        (inner / ".git").write_text("gitdir: elsewhere")
    else:
        monkeypatch.setenv("HOME", str(inner))
    monkeypatch.chdir(inner)
    assert resolve().project == "default"


YAML = """
loggers:
  - csv
  - wandb:
      day: 2026-01-02
      on_gpu: yes
      api_key: ${KEY}
tags: [a]
"""


TOML = '{day = 2026-01-02, on_gpu = true, api_key = "${KEY}"}'


@pytest.mark.parametrize("how", [str, Path])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.yaml", YAML),
        ("run.yml", "lr: 0.1\nrankzero:" + YAML.replace("\n", "\n  ")),
        ("run.toml", f'tags = ["a"]\nloggers = ["csv", {{wandb = {TOML}}}]'),
        (
            "pyproject.toml",
            f'[tool.rankzero]\ntags = ["a"]\n[tool.rankzero.loggers]\ncsv = true\nwandb = {TOML}',
        ),
    ],
    ids=["yaml", "section of yaml", "toml", "pyproject"],
)
def test_file_by_path(place, name, text, how):
    (place / "rankzero.toml").write_text('notes = "not looked at"')
    (place / "sub").mkdir()
    (place / "sub" / name).write_text(text)
    config = resolve(how(place / "sub" / name))
    day = datetime.date(2026, 1, 2)
    assert options_of(config) == {"csv": {}, "wandb": {"day": day, "on_gpu": True, "api_key": "${KEY}"}}
    assert (config.tags, config.notes) == (["a"], None)


def test_environment_beats_file_by_path(place, monkeypatch):
    (place / "run.yaml").write_text("loggers: {wandb: {entity: me}}")
    monkeypatch.setenv("RANKZERO_LOGGERS", "wandb,csv")
    assert options_of(resolve("run.yaml")) == {"wandb": {"entity": "me"}, "csv": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("projct = 'x'", "there is no setting 'projct'. Did you mean 'project'"),
        ("tags = 'x'", r"'tags' must be a list of texts, not 'x' \(str\). Write \['x'\]"),
        ("name = 3", r"'name' must be text, not 3 \(int\). Put it in quotes"),
        ("delivery = 'threads'", "'delivery' must be .*'off', not 'threads'.*Did you mean 'thread'"),
        ("resume = true", "'resume' must be 'allow', 'must' or 'never', not True"),
        ("project = \n", "is not valid TOML: .*line"),
        ("loggers = 3", "'loggers' must be a name"),
        ("project = '../x'", "'project' becomes the name of a directory"),
        ("dir = 's3://bucket/x'", "'dir' must be a local directory"),
    ],
)
@pytest.mark.parametrize(
    ("name", "header", "source"),
    [
        ("rankzero.toml", "", "rankzero.toml"),
        ("pyproject.toml", "[tool.rankzero]\n", r"pyproject.toml( \[tool.rankzero\])?"),
    ],
)
def test_wrong_file(place, name, header, source, text, message):
    (place / name).write_text(header + text)
    with pytest.raises(ConfigError, match=f"^{source}: {message}"):
        resolve()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rankzero.toml", "[loggers]\nwandb = 3", r"rankzero.toml \[loggers.wandb\]: the options of"),
        (
            "pyproject.toml",
            "[tool.rankzero.loggers]\nwandb = 3",
            r"pyproject.toml \[tool.rankzero.loggers.wandb\]: the options of",
        ),
        ("pyproject.toml", "[tool]\nrankzero = 3", "pyproject.toml: 'rankzero' must be a table"),
    ],
)
def test_wrong_table_in_file(place, name, text, message):
    (place / name).write_text(text)
    with pytest.raises(ConfigError, match=f"^{message}"):
        resolve()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2", r"run.yaml: is not valid YAML: .*line 2"),
        (f"loggers: {{wandb: {{api_key: '{SECRET}}}}}", "is not valid YAML"),
        ("- csv", "must hold keys and values, not a list"),
        ("run_id: 20260101", "'run_id' must be text.*Put it in quotes"),
        ("wandb: {entity: me}", r"no setting 'wandb'.*\[loggers.NAME\]"),
        ("!!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_wrong_yaml(place, text, message):
    (place / "run.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as raised:
        resolve("run.yaml")
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "message"), [("rnu.yaml", "no such file. Did you mean 'run.yaml'"), (".", "cannot|ends in")]
)
def test_missing_file(place, name, message):
    (place / "run.yaml").write_text("")
    with pytest.raises(ConfigError, match=message):
        resolve(Path(name))


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("RANKZERO_DELIVERY", "proces", "RANKZERO_DELIVERY: must be .* not 'proces'.*Did you mean 'process'"),
        ("RANKZERO_DOWN_TIMEOUT", "5 s", "RANKZERO_DOWN_TIMEOUT: must be a number of seconds, not '5 s'"),
        ("RANKZERO_FINISH_TIMEOUT", "-1", "RANKZERO_FINISH_TIMEOUT: must be a number of seconds, not -1.0"),
        ("RANKZERO_FINISH_TIMEOUT", "nan", "RANKZERO_FINISH_TIMEOUT: must be a number of seconds, not nan"),
        ("RANKZERO_DISABLED", "maybe", "RANKZERO_DISABLED: must be true or false, not 'maybe'"),
        ("RANKZERO_RUN_ID", "a/b", "RANKZERO_RUN_ID: 'run_id' becomes the name of a directory"),
        ("RANKZERO_DIR", "${NO_SUCH}/x", "RANKZERO_DIR: .*NO_SUCH, which is not set"),
    ],
)
def test_wrong_variable(monkeypatch, variable, text, message):
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=message):
        resolve()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("~/runs", "{home}/runs"),
        ("${SCRATCH}/runs", "/scratch/me/runs"),
        ("a/../b", "{here}/b"),
        ("/x", "/x"),
    ],
)
def test_dir(place, monkeypatch, written, expected):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert str(resolve(dir=written).dir) == expected.format(home=Path.home(), here=place)


@pytest.mark.parametrize("tags", [("a", "b"), iter("ab"), OmegaConf.create(["a", "b"])])
def test_tags(tags):
    assert resolve(tags=tags).tags == ["a", "b"]


def test_project_may_be_nested():
    assert resolve(project="team/vision").project == "team/vision"


# --- options against the logger's constructor


@pytest.mark.parametrize(
    ("logger_class", "options"),
    [
        (Tracker, {"entity": "x", "offline": True}),
        (OpenTracker, {"group": "x", "entity": "y"}),
        (DeclaredTracker, {"group": "x", "log_model": True}),
        (StrictTracker, {"workspace": "w"}),
        (type("NoInit", (), {}), {}),
    ],
)
def test_right_options(logger_class, options):
    check_options(LoggerSpec("t", "t", options), logger_class)


@pytest.mark.parametrize(
    ("logger_class", "options", "message"),
    [
        (
            Tracker,
            {"entitty": SECRET},
            "rankzero.toml: the logger 't' has no option 'entitty'. Did you mean 'entity'",
        ),
        (Tracker, {"log-model": SECRET}, "Did you mean 'log_model'"),
        (Tracker, {"zzz": SECRET}, "no option 'zzz'. Its options: entity, log_model, offline"),
        (Tracker, {"metrics": SECRET}, "no option 'metrics'"),
        (Tracker, {"self": SECRET}, "no option 'self'"),
        (OpenTracker, {"log_modell": SECRET}, "Did you mean 'log_model'"),
        (OpenTracker, {"kwargs": SECRET, "entit": SECRET}, "Did you mean 'entity'"),
        (DeclaredTracker, {"grup": SECRET}, "Did you mean 'group'"),
        (DeclaredTracker, {"zzz": SECRET}, "no option 'zzz'"),
        (StrictTracker, {"api_key": SECRET}, "rankzero.toml: the logger 't' needs 'workspace'"),
        (type("NoInit", (), {}), {"entity": SECRET}, "no option 'entity'"),
    ],
)
def test_wrong_options(logger_class, options, message):
    with pytest.raises(ConfigError, match=message) as raised:
        check_options(LoggerSpec("t", "t", options, source="rankzero.toml"), logger_class)
    assert SECRET not in str(raised.value)


class Annotated:
    def __init__(
        self,
        every: int = 1,
        rate: float | None = None,
        path: "str | os.PathLike[str]" = "",
        flag: bool = False,
        **other,
    ):
        pass


@pytest.mark.parametrize(
    ("options", "converted"),
    [
        ({"every": 10, "rate": 2, "flag": True, "path": "p"}, {"every": 10, "rate": 2.0, "flag": True, "path": "p"}),
        ({"every": "10", "rate": "1e-3", "flag": "true"}, {"every": 10, "rate": 1e-3, "flag": True}),
        ({"rate": None, "path": Path("p"), "every": np.int64(3), "tags": 5}, None),
    ],
)
def test_types_of_options(options, converted):
    assert check_types(LoggerSpec("t", "t"), Annotated, options) == (converted or options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"every": SECRET}, "'every' of the logger 't' must be int, not str"),
        ({"every": 2.5}, "must be int, not float"),
        ({"every": True}, "must be int, not bool"),
        ({"rate": SECRET}, "must be float, not str"),
        ({"path": 5}, "must be str, not int"),
        ({"flag": SECRET}, "must be bool, not str"),
    ],
)
def test_wrong_types_of_options(options, problem):
    with pytest.raises(ConfigError, match=f"rankzero.toml: the option .*{problem}") as raised:
        check_types(LoggerSpec("t", "t", options, source="rankzero.toml"), Annotated, options)
    assert SECRET not in str(raised.value)


def test_a_wrong_type_of_an_option_is_an_error_at_the_start(tmp_path):
    with pytest.raises(ConfigError, match=r"start\(\): the option 'flush_logs_every_n_steps' .* must be int, not str"):
        rankzero.start("csv", flush_logs_every_n_steps="ten", dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_wrong_option_names_the_place_where_it_stands(place):
    (place / "rankzero.toml").write_text("[loggers.wandb]\nentitty = 'me'")
    (spec,) = resolve("wandb", options={"offline": True}).loggers
    with pytest.raises(UnknownOptionError, match=r"rankzero.toml \[loggers.wandb\]: .*'entitty'"):
        check_options(spec, Tracker)
    (spec,) = resolve(options={"oflline": True}).loggers
    with pytest.raises(UnknownOptionError, match=r"start\(\): .*'oflline'.*'offline'"):
        check_options(LoggerSpec("w", "w", {"oflline": 1}, option_sources=spec.option_sources, source="f"), Tracker)
    with pytest.raises(UnknownOptionError, match=r"Did you mean start\(project=...\)"):
        check_options(LoggerSpec("w", "w", {"projct": 1}), Tracker)


def test_instance_needs_no_check():
    check_options(LoggerSpec("t", instance=StrictTracker("w")), StrictTracker)


# --- secrets


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("${KEY}", SECRET),
        ("Bearer ${KEY}", f"Bearer {SECRET}"),
        ("${KEY}${KEY}", SECRET * 2),
        ("${NONE:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${KEY:-x}", SECRET),
        ("$${KEY}", "${KEY}"),
        ("${TRICK}", "${KEY}"),
        ("$KEY ${} ${1} {KEY}", "$KEY ${} ${1} {KEY}"),
        (3, 3),
        (None, None),
        ({"a": ["${KEY}", (1, 2)]}, {"a": [SECRET, (1, 2)]}),
    ],
)
def test_expand(monkeypatch, written, expected):
    monkeypatch.setenv("KEY", SECRET)
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("TRICK", "${KEY}")
    monkeypatch.delenv("NONE", raising=False)
    options = {"x": written}
    assert expand_secrets(options, "start()") == {"x": expected}
    assert options == {"x": written}


def test_missing_secret_names_option_place_and_variable(monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    options = {"other": SECRET, "settings": {"api_key": f"{SECRET}${{NO_SUCH_KEY}}"}}
    with pytest.raises(MissingSecretError) as raised:
        expand_secrets(options, "rankzero.toml [loggers.wandb]")
    for expected in ("rankzero.toml [loggers.wandb]", "'settings.api_key'", "NO_SUCH_KEY"):
        assert expected in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["api_key", "API-KEY", "wandb_apikey", "api_token", "password", "client_secret", "credentials"]
)
def test_secret_by_name(name):
    assert is_secret(name)
    assert not is_secret(f"{name}_count")
    assert is_secret("workspace", {"workspace"})


# What is written, and what of it may stay on disk; LEFT_OUT if nothing.
LEFT_OUT = object()
CASES = [
    ("api_key", SECRET, LEFT_OUT),
    ("api_key", "${KEY}", "${KEY}"),
    ("api_key", "Bearer ${KEY}", "Bearer ${KEY}"),
    ("api_key", f"{SECRET}${{KEY}}", LEFT_OUT),
    ("api_key", f"${{KEY:-{SECRET}}}", LEFT_OUT),
    ("api_key", None, None),
    ("api_key", True, True),
    ("api_key", 12345, LEFT_OUT),
    ("workspace", SECRET, LEFT_OUT),  # declared by the logger
    ("credentials", {"user": "me", "pin": [1]}, {"pin": []}),
    ("settings", {"password": SECRET, "mode": "x"}, {"mode": "x"}),
    ("uri", f"postgresql://me:{SECRET}@host/db", LEFT_OUT),
    ("uri", f"postgresql://me:pa/{SECRET}@host/db", LEFT_OUT),
    ("uri", f"postgresql://host/db?user=me&password={SECRET}", LEFT_OUT),
    ("uri", f"http://{SECRET}@host", LEFT_OUT),
    ("uri", "http://${KEY}@host/?token=${KEY}", "http://${KEY}@host/?token=${KEY}"),
    ("uri", "postgresql://me@host/db?sslmode=x", "postgresql://me@host/db?sslmode=x"),
    ("uri", "https://host:80/x@y", "https://host:80/x@y"),
    ("entity", "me", "me"),
    ("entity", "${WHO:-me}", "${WHO:-me}"),
]


@pytest.mark.parametrize(("option", "written", "kept"), CASES)
def test_redact(option, written, kept):
    safe = redact({"first": 1, option: written}, {"workspace"})
    assert safe == {"first": 1} | ({} if kept is LEFT_OUT else {option: kept})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"api_key": SECRET, "entity": "some-team"}, {SECRET}),
        ({"workspace": SECRET}, {SECRET}),
        ({"headers": {"Authorization": "Bearer ${KEY}"}}, {"Bearer value-of-key", "value-of-key"}),
        ({"entity": "${KEY}", "user": "${SHORT}"}, {"value-of-key"}),
        ({"uri": f"http://me:{SECRET}@host"}, {f"http://me:{SECRET}@host", SECRET}),
        ({"uri": "http://me:${KEY}@host"}, {"http://me:value-of-key@host", "value-of-key"}),
        ({"token": None, "tokens": 3}, set()),
    ],
)
def test_secret_values_are_known_for_scrubbing(monkeypatch, options, expected):
    monkeypatch.setenv("KEY", "value-of-key")
    monkeypatch.setenv("SHORT", "root")
    values = secret_values(options, {"workspace"}, "start()")
    assert set(values) == expected
    assert values == sorted(values, key=len, reverse=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["entity", "settings", "tags"]), JSON), JSON)
def test_only_secrets_are_taken_out(options, nested):
    secret = {"api_key": SECRET, "deep": {"list": [{"my_token": SECRET}]}}
    safe = redact({**options, **secret})
    assert SECRET not in repr(safe)
    assert safe["deep"] == {"list": [{}]}


def test_repr_shows_no_values():
    config = resolve({"wandb": {"entity": SECRET, "api_key": SECRET}})
    assert SECRET not in repr(config) + str(config) + f"{config.loggers}"
    assert "LoggerSpec('wandb', plugin='wandb', options=[entity, api_key]" in repr(config)


def test_omegaconf_reads_no_secret(monkeypatch):
    monkeypatch.setenv("KEY", SECRET)
    config = OmegaConf.create(
        {
            "root": "me",
            "wandb": {"entity": "${root}", "api_key": "${oc.env:KEY}", "url": "${oc.env:NO_SUCH, x}"},
        }
    )
    (spec,) = resolve({"wandb": config.wandb}).loggers
    assert spec.options == {"entity": "me", "api_key": "${KEY}", "url": "${NO_SUCH:-x}"}


@pytest.mark.parametrize("value", ["${nothing.here}", "???"])
def test_omegaconf_that_does_not_resolve(value):
    with pytest.raises(ConfigError, match="OmegaConf cannot resolve 'loggers'"):
        resolve(OmegaConf.create({"wandb": {"entity": value}}))


def test_misspelt_variable_causes_a_warning(monkeypatch):
    monkeypatch.setenv("RANKZERO_LOGGER", "csv")
    with pytest.warns(UserWarning, match="the environment variable RANKZERO_LOGGER.*RANKZERO_LOGGERS"):
        resolve()
