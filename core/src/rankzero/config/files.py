"""Config files: find and read ``rankzero.toml``, ``pyproject.toml`` and YAML files.

Without a path, the config file is the nearest ``rankzero.toml``, or ``pyproject.toml`` with ``[tool.rankzero]``, from
the working directory upward; in one directory ``rankzero.toml`` takes precedence. The search ends at the root of the
git repository, the home directory or the file system's root, whichever comes first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from rankzero.errors import ConfigError
from rankzero.messages import OnceWarner, did_you_mean
from rankzero.rank import rank_zero_warn_user

SUFFIXES = (".toml", ".yaml", ".yml")


def find_config_file() -> Path | None:
    """Return the config file that applies to the working directory, if there is one."""
    for directory in search_path():
        if (own := directory / "rankzero.toml").is_file() and _is_trusted(own):
            return own
        project = directory / "pyproject.toml"
        if _has_section(project) and _is_trusted(project):
            return project
    return None


_warner = OnceWarner(rank_zero_warn_user)


def _is_trusted(path: Path) -> bool:
    """Return whether a config file that was found by searching belongs to the user or the system; warn if not.

    Otherwise anyone with write access to a parent directory could redirect the runs. In a container the user is often
    root, and the files belong to a user of the host: the owner of the working directory is trusted, too.
    """
    owner, user = path.lstat().st_uid, os.geteuid()
    if owner in (0, user) or (user == 0 and owner == os.stat(".").st_uid):
        return True
    _warner.warn(
        str(path),
        f"{shown(path)} belongs to another user (id {owner}) and is not used; to use it, copy it, or name it: "
        f'rankzero.start("{path}")',
    )
    return False


def search_path() -> Iterator[Path]:
    """Yield the directories to search for files of the user's project, the working directory first."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return  # the working directory was deleted
    home = os.path.expanduser("~")
    for directory in (here, *here.parents):
        yield directory
        if (directory / ".git").exists() or str(directory) == home:
            return


def shown(path: Path) -> str:
    """Return a path for messages: relative to the working directory if that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def _has_section(pyproject: Path) -> bool:
    try:
        text = pyproject.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # Most have no such section, and parsing TOML is slow.
    if not re.search(r"""\brankzero["']?\s*[].=]""", text):
        return False
    return "rankzero" in _parse_toml(text, shown(pyproject)).get("tool", {})


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the settings for rankzero in a TOML or YAML file.

    These are ``[tool.rankzero]`` in a pyproject.toml. In other files they are the value of the key ``rankzero``, so
    that a training config can contain them, or the whole file if there is no such key.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{shown(path)}: a config file ends in .toml, .yaml or .yml.")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{shown(path)}: there is no such file.{_did_you_mean_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error}") from error
    parse = _parse_toml if path.suffix.lower() == ".toml" else parse_yaml
    content = parse(text, shown(path))
    if path.name == "pyproject.toml":
        content = content.get("tool", {})
    elif "rankzero" not in content:
        return content
    section = content.get("rankzero", {})
    if not isinstance(section, Mapping):
        raise ConfigError(f"{shown(path)}: 'rankzero' must be a table, not {type(section).__name__}.")
    return cast("dict[str, Any]", section)


def _parse_toml(text: str, where: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: is not valid TOML: {error}") from None


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the keys and values in the text of the file ``where``."""
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # str(error) quotes the line, which may contain a secret.
        mark = getattr(error, "problem_mark", None)
        position = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        reason = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{where}: is not valid YAML: {reason}{position}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: must hold keys and values, not a {type(content).__name__}.")
    return content


def _did_you_mean_file(path: Path) -> str:
    try:
        return did_you_mean(path.name, (each.name for each in path.parent.iterdir() if each.suffix in SUFFIXES))
    except OSError:
        return ""
