"""Resolve the configuration: merge arguments of ``start()``, environment variables and config files.

The first source that sets a field takes precedence:

1. the arguments of ``rankzero.start()``;
2. the environment: ``RANKZERO_LOGGERS`` (names, comma-separated), ``RANKZERO_PROJECT``, ``RANKZERO_NAME``,
   ``RANKZERO_GROUP``, ``RANKZERO_TAGS`` (comma-separated), ``RANKZERO_DIR``, ``RANKZERO_RUN_ID``,
   ``RANKZERO_DELIVERY``, ``RANKZERO_FINISH_TIMEOUT``, ``RANKZERO_DOWN_TIMEOUT``, ``RANKZERO_CAPTURE_ENVIRONMENT``,
   ``RANKZERO_SYSTEM_METRICS``, ``RANKZERO_DISABLED``; an empty variable counts as not set;
3. a config file: the one whose path was passed, or else the nearest one (see `rankzero.config.files`);
4. the defaults: the logger ``csv``, the project ``default`` and the directory ``rankzero-runs``.

A logger that is chosen by name takes the file's options for that name; options passed with the name override them. A
relative ``dir`` is relative to the config file that sets it, or else to the working directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec

from rankzero.config.files import SUFFIXES, find_config_file, read_config_file, search_path, shown
from rankzero.config.logger_options import START, START_PARAMETERS, LoggerSpec
from rankzero.errors import ConfigError, UnknownOptionError
from rankzero.events.run_info import DEFAULT_PROJECT
from rankzero.events.trust import is_name
from rankzero.messages import did_you_mean, nearest
from rankzero.plugins.registry import ALLOW_LIST
from rankzero.processes import INTEGRATIONS
from rankzero.rank import rank_zero_warn
from rankzero.secrets import expand_secrets
from rankzero.values import as_names

Delivery = Literal["process", "thread", "off"]
Resume = Literal["allow", "must", "never"]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class RunConfig(msgspec.Struct):
    """The configuration of a run, merged from all sources."""

    loggers: list[LoggerSpec]
    project: str
    name: str | None
    group: str | None
    parent: str | None
    tags: list[str]
    notes: str | None
    dir: Path
    """Absolute."""
    run_id: str | None
    resume: Resume
    resume_step: int | None
    fork_from: str | None
    fork_step: int | None
    delivery: Delivery
    finish_timeout: float
    """In seconds."""
    down_timeout: float
    """In seconds."""
    capture_environment: bool
    system_metrics: float | bool
    """The interval in seconds; True for the default, False or 0 for none."""
    disabled: bool


class _Layer(msgspec.Struct):
    """The settings of one source; for a field that is missing or None, the next source applies."""

    source: str
    values: dict[str, Any]
    base: Path | None = None
    """The directory of a config file, to which a relative ``dir`` is relative."""

    def where(self, logger: str) -> str:
        """Return where the options of ``logger`` are set, for messages."""
        if self.base is None:
            return self.source
        if self.source.endswith("]"):  # pyproject.toml [tool.rankzero]
            return f"{self.source[:-1]}.loggers.{logger}]"
        key = f"loggers.{logger}"
        return f"{self.source} [{key}]" if self.source.endswith(".toml") else f"{self.source}, {key}"


class _Field(msgspec.Struct, frozen=True):
    type: Any
    expected: str
    default: Any = None
    variable: str | None = None
    parse: Callable[[str], Any] = str
    """Parses the value of an environment variable."""


def _parse_seconds(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _parse_seconds_or_bool(text: str) -> Any:
    seconds = _parse_seconds(text)
    return seconds if isinstance(seconds, float) else _parse_bool(text)


def _parse_bool(text: str) -> Any:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    return False if word in ("0", "false", "no", "off") else text


_FIELDS = {
    "loggers": _Field(Any, "names", ["csv"], "RANKZERO_LOGGERS", as_names),
    "project": _Field(str, "text", DEFAULT_PROJECT, "RANKZERO_PROJECT"),
    "name": _Field(str, "text", None, "RANKZERO_NAME"),
    "group": _Field(str, "text", None, "RANKZERO_GROUP"),
    "parent": _Field(str, "the id of a run", None, "RANKZERO_PARENT"),
    "tags": _Field(list[str], "a list of texts", (), "RANKZERO_TAGS", as_names),
    "notes": _Field(str, "text"),
    "dir": _Field(str, "a path", "rankzero-runs", "RANKZERO_DIR"),
    "run_id": _Field(str, "text", None, "RANKZERO_RUN_ID"),
    "resume": _Field(Resume, "'allow', 'must' or 'never'", "allow"),
    "resume_step": _Field(Annotated[int, msgspec.Meta(ge=-1)], "a whole number, at least -1"),
    "fork_from": _Field(str, "a run, its id or its directory"),
    "fork_step": _Field(Annotated[int, msgspec.Meta(ge=-1)], "a whole number, at least -1"),
    "delivery": _Field(Delivery, "'process', 'thread' or 'off'", "process", "RANKZERO_DELIVERY"),
    "finish_timeout": _Field(Seconds, "a number of seconds", 60.0, "RANKZERO_FINISH_TIMEOUT", _parse_seconds),
    "down_timeout": _Field(Seconds, "a number of seconds", 5.0, "RANKZERO_DOWN_TIMEOUT", _parse_seconds),
    "capture_environment": _Field(bool, "true or false", True, "RANKZERO_CAPTURE_ENVIRONMENT", _parse_bool),
    "system_metrics": _Field(
        Seconds | bool,
        "a number of seconds, true or false",
        True,
        "RANKZERO_SYSTEM_METRICS",
        _parse_seconds_or_bool,
    ),
    "disabled": _Field(bool, "true or false", False, "RANKZERO_DISABLED", _parse_bool),
}


def resolve(
    loggers: Any = None,
    *,
    config_file: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RunConfig:
    """Return the configuration of a run; the module's docstring lists the sources.

    `check_options` checks later whether the loggers exist and take their options, because that imports plugins.

    Args:
        loggers: a name; a list of names, mappings and Logger instances; a mapping from name to options (True or None:
            no options, False: not this logger); a mapping with a key ``loggers``, which may hold everything that a
            config file may; the path of a config file.
        config_file: the config file to use instead of searching for one.
        options: options for the only logger.
        settings: the arguments of ``start()`` with these names; None for those that were not given.

    Raises:
        ConfigError: an argument, an environment variable or a setting in a file is invalid; the message says where.
        UnknownOptionError: ``options`` are given, and there is not exactly one logger.
    """
    loggers = _plain(loggers, "loggers")
    if isinstance(loggers, os.PathLike) or (isinstance(loggers, str) and loggers.endswith(SUFFIXES)):
        loggers, config_file = None, loggers
    passed = {"loggers": loggers, **settings}
    passed["fork_from"] = getattr(passed.get("fork_from"), "dir", passed.get("fork_from"))  # of a Run
    for field in ("dir", "fork_from"):
        if isinstance(passed.get(field), os.PathLike):
            passed[field] = os.fspath(passed[field])
    passed["parent"] = getattr(passed.get("parent"), "id", passed.get("parent"))  # of a Run
    if isinstance(passed.get("tags"), Iterable) and not isinstance(passed["tags"], str | Mapping):
        passed["tags"] = list(passed["tags"])
    passed = {field: _plain(value, field) for field, value in passed.items()}
    arguments = [_Layer(START, passed)]
    if isinstance(loggers, Mapping) and "loggers" in loggers:
        passed["loggers"] = None
        arguments.append(_Layer(START, dict(loggers)))
    path = Path(config_file) if config_file else find_config_file()
    file = _read(path) if path else _Layer("", {})
    layers = [*arguments, *_environment(), file]
    for layer in layers:
        _check(layer)
    run_dir, base = _first(layers, "dir")
    chosen = _choose_loggers(layers, file)
    _give_options(chosen, dict(_plain(options, "options") or {}))
    return RunConfig(
        loggers=chosen,
        tags=list(_first(layers, "tags")[0]),
        dir=_directory(run_dir, base),
        **{each: _first(layers, each)[0] for each in _FIELDS if each not in ("loggers", "tags", "dir")},
    )


def find_runs_directory() -> Path:
    """Return the directory of runs, for commands that show or deliver them.

    If no source sets it, it is the nearest ``rankzero-runs`` from the working directory upward; the search ends where
    that for a config file does.
    """
    directory = resolve().dir
    default = str(_FIELDS["dir"].default)
    candidates = [each / default for each in search_path()]
    if directory.exists() or directory not in candidates[:1]:
        return directory
    return next(filter(Path.is_dir, candidates), directory)


def _read(path: Path) -> _Layer:
    source = f"{shown(path)} [tool.rankzero]" if path.name == "pyproject.toml" else shown(path)
    return _Layer(source, read_config_file(path), path.absolute().parent)


def _first(layers: list[_Layer], field: str) -> tuple[Any, _Layer | None]:
    for layer in layers:
        if layer.values.get(field) is not None:
            return layer.values[field], layer
    return _FIELDS[field].default, None


def _environment() -> Iterator[_Layer]:
    variables = {field.variable for field in _FIELDS.values() if field.variable} | {ALLOW_LIST, INTEGRATIONS}
    for variable in os.environ:
        if (
            variable.startswith("RANKZERO_")
            and variable not in variables
            and (hint := did_you_mean(variable, variables))
        ):
            rank_zero_warn(f"rankzero does not know the environment variable {variable}.{hint}")
    for name, field in _FIELDS.items():
        text = os.environ.get(field.variable or "", "")
        if text.strip():
            yield _Layer(cast(str, field.variable), {name: field.parse(text)})


def _check(layer: _Layer) -> None:
    for key, value in layer.values.items():
        field = _FIELDS.get(str(key))
        if field is None:
            raise ConfigError(
                f"{layer.source}: there is no setting {key!r}.{did_you_mean(str(key), _FIELDS)} "
                f"Settings: {', '.join(_FIELDS)}. A logger's options stand under its name: [loggers.NAME]."
            )
        if value is None or key == "loggers":
            continue
        try:
            layer.values[key] = msgspec.convert(value, field.type)
        except msgspec.ValidationError:
            found = f"{value!r} ({type(value).__name__})"
            hint = did_you_mean(value, re.findall(r"'(\w+)'", field.expected)) if isinstance(value, str) else ""
            if field.expected == "text" and isinstance(value, int | float):
                hint = " Put it in quotes."
            elif key == "tags" and isinstance(value, str):
                hint = f" Write [{value!r}]."
            at = "" if layer.source == field.variable else f" {key!r}"
            raise ConfigError(f"{layer.source}:{at} must be {field.expected}, not {found}.{hint}") from None
        _check_path_part(layer, key)


def _check_path_part(layer: _Layer, key: str) -> None:
    # A project and a run id become directories.
    if key not in ("project", "run_id"):
        return
    value = layer.values[key]
    parts = value.split("/") if key == "project" else [value]
    if not all(map(is_name, parts)):
        raise ConfigError(
            f"{layer.source}: {key!r} becomes the name of a directory, which {value!r} cannot be. "
            "Use letters, digits, '-', '_' and '.'."
        )


def _directory(path: str, layer: _Layer | None) -> Path:
    source = layer.source if layer else "defaults"
    expanded = Path(expand_secrets({"dir": path}, source)["dir"]).expanduser()
    if "://" in path:
        raise ConfigError(
            f"{source}: 'dir' must be a local directory, because the journal is appended to; {path!r} is not."
        )
    return Path(os.path.abspath((layer.base if layer and layer.base else Path()) / expanded))


def _choose_loggers(layers: list[_Layer], file: _Layer) -> list[LoggerSpec]:
    value, found = _first(layers, "loggers")
    layer = found or _Layer("defaults", {})
    in_file = _options_in_file(file)
    specs: list[LoggerSpec] = []
    for name, content in _named(value, layer.source):
        spec = _spec(name, content, layer)
        if spec is None:
            continue
        if layer is not file and (below := in_file.get(spec.plugin or "")):
            spec.option_sources = dict.fromkeys(below.keys() - spec.options.keys(), file.where(spec.key))
            spec.options = {**below, **spec.options}
        spec.key = _unique(spec.key, [each.key for each in specs])
        specs.append(spec)
    return specs


def _options_in_file(file: _Layer) -> dict[str, dict[str, Any]]:
    loggers = file.values.get("loggers")
    found = {}
    for name, content in _named(loggers, file.source) if loggers is not None else ():
        if isinstance(name, str) and isinstance(content, Mapping):
            found[name] = {str(option): value for option, value in content.items()}
    return found


def _named(value: Any, source: str) -> Iterator[tuple[Any, Any]]:
    # Yields (name, options) for each accepted form; (None, instance) for a logger.
    if isinstance(value, str):
        yield value, None
    elif isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        for each in value:
            if isinstance(each, list | tuple):
                raise ConfigError(f"{source}: 'loggers' holds a list within a list; write one list.")
            yield from _named(each, source)
    elif isinstance(value, type):
        raise ConfigError(
            f"{source}: 'loggers' holds the class {value.__name__}; pass an instance, {value.__name__}(...)."
        )
    elif _is_logger(value):
        yield None, value
    else:
        raise ConfigError(
            f"{source}: 'loggers' must be a name, a list of names, or a mapping from name to options, "
            f"not {type(value).__name__}."
        )


def _is_logger(value: Any) -> bool:
    return hasattr(value, "log_metrics") and hasattr(value, "log_hyperparams")


def _spec(name: Any, content: Any, layer: _Layer) -> LoggerSpec | None:
    source = layer.source
    if name is None:
        name = re.sub(r"logger$", "", type(content).__name__.lower()) or "logger"
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        # The name becomes part of file names.
        raise ConfigError(f"{source}: {name!r} cannot be the name of a logger; use letters, digits, '-', '_' and '.'.")
    if _is_logger(content) and not isinstance(content, type):
        return LoggerSpec(key=name, instance=content, source=source)
    if content is None or isinstance(content, bool):
        return None if content is False else LoggerSpec(key=name, plugin=name, source=source)
    where = layer.where(name)
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{where}: the options of {name!r} must be a mapping from option to value, not {type(content).__name__}."
        )
    options = {str(option): value for option, value in content.items()}
    return LoggerSpec(key=name, plugin=name, options=options, source=where)


def _unique(key: str, taken: list[str]) -> str:
    candidate, number = key, 2
    while candidate in taken:
        candidate, number = f"{key}-{number}", number + 1
    return candidate


def _give_options(specs: list[LoggerSpec], options: dict[str, Any]) -> None:
    if not options:
        return
    if len(specs) == 1 and specs[0].instance is None:
        (spec,) = specs
        spec.option_sources |= dict.fromkeys(options, START)
        spec.options = {**spec.options, **options}
        return
    for option in options:
        if found := nearest(option, START_PARAMETERS):
            raise UnknownOptionError(f"{START} has no parameter {option!r}. Did you mean {found!r}?")
    names = ", ".join(options)
    if len(specs) == 1:
        raise UnknownOptionError(
            f"{START} was given options ({names}) for a logger that is made already; give them to its constructor."
        )
    if not specs:
        raise UnknownOptionError(f"{START} was given options ({names}) and no logger to take them.")
    keys = [spec.key for spec in specs]
    example = ", ".join(f'"{key}": {{...}}' for key in keys)
    raise UnknownOptionError(
        f"{START} was given options ({names}), and {len(keys)} loggers ({', '.join(keys)}) that they may "
        f"be for. Write loggers={{{example}}}."
    )


def _plain(value: Any, where: str) -> Any:
    """Convert OmegaConf nodes (Hydra), at any depth, to dictionaries and lists."""
    if isinstance(value, dict):
        return {key: _plain(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, where) for each in value]
    if not type(value).__module__.startswith("omegaconf."):
        return value
    from omegaconf.errors import OmegaConfBaseException

    try:
        return _plain_node(value)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{START}: OmegaConf cannot resolve {where!r}: {reason}. "
            "An environment variable is written ${oc.env:NAME} there."
        ) from None


def _plain_node(node: Any) -> Any:
    # A reference to an environment variable stays one, as ${NAME}, so that no secret is expanded here.
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if not isinstance(node, DictConfig | ListConfig):
        return node
    written: Any = OmegaConf.to_container(node, resolve=False)
    if isinstance(written, list):
        return [_as_reference(each) or _plain_node(node[index]) for index, each in enumerate(written)]
    if isinstance(written, dict):
        return {key: _as_reference(each) or _plain_node(node[key]) for key, each in written.items()}
    return None


def _as_reference(text: Any) -> str | None:
    if not isinstance(text, str):
        return None
    found = re.fullmatch(r"\$\{oc\.env:\s*(\w+)\s*(?:,\s*([^}]*))?\}", text)
    if found is None:
        return None
    return f"${{{found[1]}}}" if found[2] is None else f"${{{found[1]}:-{found[2]}}}"
