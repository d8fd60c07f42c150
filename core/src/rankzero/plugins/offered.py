"""Find the classes that plugins offer by a hook: importers, exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rankzero.errors import ConfigError, DuplicatePluginError
from rankzero.plugins.registry import get_plugins

Owners = Mapping[str, type[Any]]
"""Plugin name → the class that it offers."""


def offered_classes(hook: str) -> dict[str, dict[str, type[Any]]]:
    """Return name → {plugin name: class}, of all plugins that implement a hook. Load the hook modules before.

    Raises:
        ConfigError: a plugin returns something else than a mapping.
    """
    offered: dict[str, dict[str, type[Any]]] = {}
    for plugin, classes in get_plugins().call_all(hook):
        if classes is None:
            continue
        if not isinstance(classes, Mapping):
            raise ConfigError(
                f"The plugin {plugin!r} must return a mapping from name to class from {hook}, "
                f"not {type(classes).__name__}. Update or uninstall it."
            )
        for name, offered_class in classes.items():
            offered.setdefault(name, {})[plugin] = offered_class
    return dict(sorted(offered.items()))


def only_class(what: str, owners: Owners) -> type[Any]:
    """Return the class that one plugin offers.

    Args:
        what: such as ``the importer 'csv'``, for the error message.
        owners: the plugins that offer it.

    Raises:
        DuplicatePluginError: several plugins offer it.
    """
    if len(owners) > 1:
        raise DuplicatePluginError(
            f"Several plugins provide {what}: {' and '.join(map(repr, owners))}. Uninstall all but one of them, or "
            "choose one with RANKZERO_PLUGINS."
        )
    return next(iter(owners.values()))
