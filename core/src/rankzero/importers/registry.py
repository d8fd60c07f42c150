"""Find the importers of installed plugins, and make one by name with its options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from rankzero.errors import ConfigError, PluginNotInstalledError, UnknownOptionError
from rankzero.importers.base import Importer
from rankzero.importers.sources.csv import CsvImporter
from rankzero.importers.sources.hf import HfImporter
from rankzero.importers.sources.jsonl import JsonLinesImporter
from rankzero.importers.sources.trackio import TrackioImporter
from rankzero.messages import did_you_mean
from rankzero.plugins.offered import offered_classes, only_class
from rankzero.plugins.registry import get_plugins, known_loggers

_OWN: dict[str, type[Importer]] = {
    "csv": CsvImporter,
    "hf": HfImporter,
    "jsonl": JsonLinesImporter,
    "trackio": TrackioImporter,
}


def installed_importers() -> dict[str, dict[str, type[Importer]]]:
    """Return importer name → {plugin name: importer}. Load the hook modules before."""
    offered = offered_classes("rankzero_importers")
    for name, importer in _OWN.items():
        offered.setdefault(name, {})["rankzero"] = importer
    return dict(sorted(offered.items()))


def make_importer(name: str, options: Mapping[str, Any]) -> Importer:
    """Make the importer ``name`` with these options.

    Raises:
        ConfigError: there is no importer of that name, or it does not accept these options.
        DuplicatePluginError: several plugins provide it.
        PluginNotInstalledError: it is in a plugin that is not installed.
    """
    offered = installed_importers()
    if name not in offered:
        raise _unknown(name, list(offered))
    importer = only_class(f"the importer {name!r}", offered[name])
    known = inspect.signature(importer).parameters
    for option, value in options.items():
        if option not in known:
            raise UnknownOptionError(
                f"The importer {name!r} has no option {option!r}.{did_you_mean(option, known)} "
                f"Its options: {', '.join(known) or 'none'}."
            )
        if isinstance(known[option].default, bool) and not isinstance(value, bool):
            raise ConfigError(f"The option {option!r} of the importer {name!r} is true or false, not {value!r}")
    made: Importer = importer(**options)
    return made


def _unknown(name: str, offered: list[str]) -> Exception:
    known = known_loggers()
    installed = get_plugins().available()
    if name in known and name not in installed:
        return PluginNotInstalledError(f"The importer {name!r} is not installed. Run: {known[name]}")
    has_none = f" The plugin {name!r} has no importer." if name in installed else ""
    return ConfigError(
        f"There is no importer {name!r}.{has_none}{did_you_mean(name, offered)} "
        f"Installed: {', '.join(offered) or 'none'}."
    )
