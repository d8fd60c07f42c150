"""Destinations: the loggers to which the command line delivers a run, from its journal or a config file.

A destination is a logger with its options. Each has its own position, so another file, project or server is another
destination with another key: ``NAME-`` and eight digits of a hash of the options that differ.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rankzero.config.logger_options import LoggerSpec
from rankzero.config.prepared import with_absolute_paths
from rankzero.config.resolving import resolve
from rankzero.delivery.consent import Consent, ask_for_consent, check_references, foreign_options
from rankzero.errors import ConfigError, PluginError, RankzeroError
from rankzero.events.structs import Start
from rankzero.journal.tail import Tail
from rankzero.plugins.registry import get_plugins
from rankzero.rundir.layout import JOURNAL
from rankzero.rundir.positions import positions
from rankzero.secrets import is_secret, redact
from rankzero.values import to_jsonable

_COMMAND_LINE = "the command line"
_START = b'{"type":"start",'
_OWN_KEY = re.compile(r"(.+)-[0-9a-f]{8}")
_PASSWORD_IN_URL = re.compile(r'(\w://[^/@\s:"]*:)[^/@\s"]+@')


class RecordedLoggers:
    """The loggers of a run, from its journal; `update` reads only what was appended."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._journal = run_dir / JOURNAL
        self._offset = 0
        self.known: dict[str, dict[str, Any]] = {}
        """The loggers found so far."""
        self._own: set[str] = set()

    def is_own(self, key: str) -> bool:
        """Return whether this user wrote the record of a logger."""
        return key in self._own

    def update(self) -> dict[str, dict[str, Any]]:
        """Read new events; return key → ``{"plugin": name, "options": {…}, "left_out": [secret, …]}`` or
        ``{"class": …}``.
        """
        tail = Tail(self._journal, self._offset)
        try:
            while lines := tail.read():
                for line in lines:
                    event = line.decode() if line.data.startswith(_START) else None
                    if isinstance(event, Start):
                        self.known.update(event.loggers)
                        keys = event.loggers.keys()
                        self._own = self._own | keys if event.is_own(self._run_dir) else self._own - keys
        finally:
            tail.close()
        self._offset = tail.offset
        return self.known


def choose_loggers(
    run_dir: Path,
    names: Sequence[str],
    options: Mapping[str, Any],
    recorded: RecordedLoggers | None = None,
    consent: Consent | None = None,
    on_problem: Callable[[RankzeroError], object] | None = None,
) -> list[LoggerSpec]:
    """Return the loggers to deliver a run to.

    Args:
        run_dir: the run's directory.
        names: keys of loggers of this run, or names of plugins; if empty, all loggers in its journal.
        options: added to the options of each logger from the journal or a config file.
        recorded: the run's loggers, if they were read before.
        consent: called for a run that another user started; without it such a run is delivered only to destinations
            in the user's own configuration.
        on_problem: called with the error of a logger in the journal that cannot be made again, which is left out.

    Raises:
        UntrustedRunError: the journal of another user's run names another destination.
        ConfigError: no logger is known, one cannot be made again, or a secret is missing.
        PluginError: a logger that is given options cannot be loaded.
    """
    recorded = recorded or RecordedLoggers(run_dir)
    known = recorded.update()
    if not names and not known:
        raise ConfigError(f"{run_dir} names no logger; give one with --to NAME")
    if names:
        return [_choose_named(run_dir, name, recorded, options, consent) for name in names]
    found = []
    for key in known:
        try:
            found.append(_from_journal(run_dir, key, recorded, options, consent))
        except (ConfigError, PluginError) as error:
            if on_problem is None or len(known) == 1:
                raise
            on_problem(error)
    return found


def plugin_of(key: str) -> str:
    """Return the plugin of a destination that a command was given, by its key."""
    own = _OWN_KEY.fullmatch(key)
    return own[1] if own and key not in get_plugins().available() else key


def logger_from_config(name: str, options: Mapping[str, Any]) -> LoggerSpec:
    """Return the logger ``name`` with its options from a config file, overridden by ``options``."""
    spec = resolve({name: dict(options)}).loggers[0]
    spec.source = name  # the user named it; `option_sources` says where each option was set
    spec.option_sources.update(dict.fromkeys(options, _COMMAND_LINE))
    return spec


def _choose_named(
    run_dir: Path, name: str, recorded: RecordedLoggers, options: Mapping[str, Any], consent: Consent | None
) -> LoggerSpec:
    available = get_plugins().available()
    known = recorded.known.get(name)
    if known is not None and ("plugin" in known or name not in available):
        return _from_journal(run_dir, name, recorded, options, consent, is_named=True)
    plugin = plugin_of(name)
    if plugin != name and name in positions(run_dir):
        raise ConfigError(
            f"{name!r} is a delivery of {run_dir} to {plugin!r} with options of the command line, which are not "
            f"recorded; give them again: --to {plugin} --option KEY=VALUE"
        )
    spec = logger_from_config(name, options)
    if options:
        spec.key = _key(spec, options, logger_from_config(name, {}).options)
    return spec


def _from_journal(
    run_dir: Path,
    key: str,
    recorded: RecordedLoggers,
    options: Mapping[str, Any],
    consent: Consent | None,
    *,
    is_named: bool = False,
) -> LoggerSpec:
    known = recorded.known[key]
    if "plugin" not in known:
        raise ConfigError(
            f"the logger {key!r} of {run_dir} is an object of {known.get('class', 'a class')}, which no plugin "
            "provides, and rankzero does not import a class because a journal names it. Give the class a name with an "
            f"entry point, and run: rankzero sync {shlex.quote(str(run_dir))} --to NAME; or deliver from Python: "
            "rankzero.deliver(run_dir, logger)"
        )
    written = known.get("options", {})
    spec = LoggerSpec(key, known["plugin"], {**written, **options}, source=str(run_dir / JOURNAL))
    spec.option_sources = dict.fromkeys(options, _COMMAND_LINE)
    left_out = list(known.get("left_out", ()))
    changed = dict(options)
    if not recorded.is_own(key):
        changed |= _ask_about_options(spec, run_dir, written, options, consent, is_named=is_named)
    _add_secrets(spec, run_dir, [each for each in left_out if each not in options])
    if changed:
        spec.key = _key(spec, changed, written, left_out)
    return spec


def _ask_about_options(
    spec: LoggerSpec,
    run_dir: Path,
    written: Mapping[str, Any],
    options: Mapping[str, Any],
    consent: Consent | None,
    *,
    is_named: bool,
) -> dict[str, Any]:
    """Keep only the options from another user's journal that the user agrees to; return the replaced ones."""
    assert spec.plugin is not None
    foreign = {name: value for name, value in foreign_options(spec.plugin, written).items() if name not in options}
    if not foreign:
        return {}
    if is_named and consent is None:  # the user named the logger, so it is the user's own
        config = logger_from_config(spec.plugin, {})
        kept = {name: value for name, value in written.items() if name not in foreign}
        spec.options = {**kept, **config.options, **options}
        spec.option_sources = {**{name: config.where(name) for name in config.options}, **spec.option_sources}
        return {name: spec.options.get(name) for name in foreign}
    ask_for_consent(str(run_dir), spec.plugin, foreign, consent)
    secret_names = get_plugins().load_logger(spec.plugin, spec.source).secret_options
    check_references(spec.source, spec.plugin, written, options, secret_names)
    return {}


def _add_secrets(spec: LoggerSpec, run_dir: Path, names: Sequence[str]) -> None:
    """Add the secret options, which are not in the journal, from a config file."""
    if not names:
        return
    assert spec.plugin is not None
    config = logger_from_config(spec.plugin, {})
    for name in names:
        if name in config.options:
            spec.options[name] = config.options[name]
            spec.option_sources[name] = config.where(name)
    missing = [name for name in names if name not in spec.options]
    if missing:
        listed = ", ".join(map(repr, missing))
        was = f"the option {listed} was not recorded because it is a secret; give it"
        were = f"the options {listed} were not recorded because they are secrets; give them"
        given = " ".join(f"-o {name}='${{ENV_NAME}}'" for name in missing)
        raise ConfigError(
            f"{spec.source}: {was if len(missing) == 1 else were} with {given}, as in: "
            f"rankzero sync {shlex.quote(str(run_dir))} --to {spec.key} {given}; or in the options "
            f"that a config file has for {spec.plugin!r}"
        )


def _key(spec: LoggerSpec, given: Mapping[str, Any], base: Mapping[str, Any], left_out: Iterable[str] = ()) -> str:
    """Return the key of a destination with the options ``given`` added to ``base``, which has the key of ``spec``.

    Secrets do not change the key: a run delivered with another token goes to the same destination.
    """
    secrets = get_plugins().load_logger(spec.plugin or spec.key, spec.source).secret_options
    ours, theirs = _without_secrets(given, secrets), _without_secrets(base, secrets)
    different = {
        name: value
        for name, value in ours.items()
        if name not in left_out and (name not in theirs or theirs[name] != value)
    }
    if not different:
        return spec.key
    return f"{spec.key}-{hashlib.sha256(msgspec.json.encode(different, order='sorted')).hexdigest()[:8]}"


def _without_secrets(options: Mapping[str, Any], secrets: Iterable[str]) -> dict[str, Any]:
    text = msgspec.json.encode(to_jsonable(with_absolute_paths(options))).decode()
    plain = msgspec.json.decode(_PASSWORD_IN_URL.sub(r"\1@", text))
    return {name: value for name, value in redact(plain, secrets).items() if not is_secret(name, secrets)}
