"""The config and summary of a run, mappings whose values are also attributes; and W&B's exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rankzero.config.files import parse_yaml
from rankzero.messages import did_you_mean
from rankzero.values import flatten, to_jsonable, to_number


class Error(Exception):
    """The base class of W&B's exceptions."""


class UsageError(Error):
    """A wrong call, or a call that needs W&B's servers."""


class CommError(Error):
    """W&B cannot be reached; never raised here, because couriers deliver."""


class ConfigError(Error):
    """A value of the config would change, and the call does not allow it."""


def refuse(owner: str, known: Iterable[str], name: str) -> NoReturn:
    """Raise the AttributeError for a name that ``owner`` does not have."""
    raise AttributeError(f"rankzero.compat.wandb.{owner} has no {name!r}.{did_you_mean(name, known)}")


class Named:
    """The base of classes whose missing attributes raise a helpful AttributeError."""

    def __getattr__(self, name: str) -> NoReturn:
        refuse(type(self).__name__, [each for each in dir(type(self)) if each[0] != "_"], name)


class Attributes(Mapping[str, Any]):
    """A mapping whose values can be read and set as attributes.

    Args:
        write: called with the new items.
    """

    def __init__(self, write: Callable[[Mapping[str, Any]], object]) -> None:
        self.__dict__.update(_write=write, _items={})

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__.get("_items", {}):  # a copy has no items yet
            raise AttributeError(f"there is no {name!r} in the run's {type(self).__name__.lower()}")
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __repr__(self) -> str:
        return repr(dict(self))

    def as_dict(self) -> dict[str, Any]:
        return dict(self)

    def update(self, values: Any) -> None:
        self._items.update(values)
        self._write(values)


class Config(Attributes):
    """Hyperparameters, which are logged when they are set, and can be changed only if that is allowed."""

    def __init__(self, write: Callable[[Mapping[str, Any]], object], may_change: bool) -> None:
        super().__init__(write)
        self.__dict__["_may_change"] = may_change

    def update(self, values: Any, allow_val_change: bool | None = None) -> None:
        """Set the values of a mapping, Namespace, dataclass or absl's flags."""
        given = {name.strip("-"): value for name, value in as_mapping(values).items()}
        may_change = self.__dict__["_may_change"] if allow_val_change is None else allow_val_change
        for name in () if may_change else given.keys() & self._items.keys():
            if to_jsonable(given[name]) != to_jsonable(self[name]):
                raise ConfigError(
                    f"the config has {name}={self[name]!r} already; to change it to {given[name]!r}, call "
                    "config.update(..., allow_val_change=True)"
                )
        if given:
            super().update(given)

    def setdefaults(self, values: Any) -> None:
        self.update({name: value for name, value in as_mapping(values).items() if name not in self})


def as_mapping(values: Any) -> dict[str, Any]:
    """Return name → hyperparameter of a mapping, Namespace, dataclass, absl's flags or a YAML file."""
    if isinstance(values, str | Path):
        read = parse_yaml(Path(values).read_text(encoding="utf-8"), str(values))
        return {name: _bare(value) for name, value in read.items() if name != "wandb_version"}
    values = values.flag_values_dict() if hasattr(values, "flag_values_dict") else values or {}  # absl's
    if type(values).__name__ in ("Namespace", "SimpleNamespace"):
        values = vars(values)
    plain = values if isinstance(values, Mapping) else to_jsonable(values)
    if not isinstance(plain, Mapping):
        raise TypeError(f"a config must be a mapping, not {type(values).__name__}")
    return {str(name): value for name, value in plain.items()}


def _bare(value: Any) -> Any:
    """Return the value in ``{"desc": …, "value": …}``, the form of W&B's files."""
    is_described = isinstance(value, dict) and "value" in value and value.keys() <= {"desc", "value"}
    return value["value"] if is_described else value


class Summary(Attributes):
    """The last value of each metric, and values set by the script, which are logged."""

    def __getitem__(self, key: str) -> Any:
        value = self._items[key]
        number = to_number(value)
        return value if number is None else number

    def update(self, values: Any, overwrite: bool = True) -> None:
        flat = dict(flatten(values, "."))
        self.note(flat)
        self._write(flat)

    def note(self, values: Mapping[str, Any]) -> None:
        """Keep logged values, tensors without their graphs."""
        self._items.update(values)
        for name, value in values.items():
            if hasattr(value, "detach"):
                self._items[name] = value.detach()
