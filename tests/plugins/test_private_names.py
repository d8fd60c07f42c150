"""The plugins use no private names of core, so that all plugins have the same API."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rankzero.loggers.adapter import Session, TrackerLogger
from rankzero.loggers.base import Logger
from rankzero.loggers.options import Options

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "src").is_dir())
BASES = {each.__name__: each for each in (Logger, TrackerLogger, Session, Options)}
"""The base classes of plugins."""
CORE = ast.Module(
    [
        *ast.parse((ROOT / "core/src/rankzero/loggers/verbs.py").read_text()).body,
        *ast.parse((ROOT / "core/src/rankzero/loggers/base.py").read_text()).body,
        *ast.parse((ROOT / "core/src/rankzero/loggers/options.py").read_text()).body,
        *ast.parse((ROOT / "core/src/rankzero/loggers/adapter.py").read_text()).body,
    ],
    [],
)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names(base: type) -> set[str]:
    """Return the private methods and attributes of a class of core and its bases."""
    found: set[str] = set()
    for owner in CORE.body:
        if isinstance(owner, ast.ClassDef) and owner.name in {each.__name__ for each in base.__mro__}:
            for node in ast.walk(owner):
                if isinstance(node, ast.FunctionDef):
                    found.add(node.name)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    found.add(node.attr)
    return {name for name in found if is_private(name)}


def heirs(modules: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Return class of a plugin → private names of its direct and indirect bases in core."""
    found = {name: private_names(base) for name, base in BASES.items()}
    classes = [node for tree in modules.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for _ in classes:  # each round finds one more level of subclasses
        for each in classes:
            inherited = set().union(*(found.get(ast.unparse(base), set()) for base in each.bases))
            if inherited and each.name not in BASES:
                found[each.name] = inherited
    return found


def uses(modules: Mapping[str, ast.Module]) -> Iterator[str]:
    private = heirs(modules)
    for path, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rankzero":
                yield from (f"{path}:{node.lineno}: {alias.name}" for alias in node.names if is_private(alias.name))
            elif isinstance(node, ast.ClassDef) and node.name in private:
                for each in ast.walk(node):
                    if isinstance(each, ast.FunctionDef) and each.name in private[node.name]:
                        yield f"{path}:{each.lineno}: def {each.name}"
                    elif isinstance(each, ast.Attribute) and each.attr in private[node.name]:
                        yield f"{path}:{each.lineno}: {ast.unparse(each)}"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_uses_nothing_private_of_core(plugin):
    sources = sorted((ROOT / "plugins" / plugin / "src").rglob("*.py"))
    found = list(uses({str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sources}))
    assert found == []


SAMPLE = """
from rankzero.loggers.adapter import TrackerLogger, _PLURALS
class Ours(Mine):
    def name(self): return self._session
class Mine(TrackerLogger):
    def _opened(self): return self._clear_scratch()
class Simple(Logger):
    def name(self): return self._session or self._context
class Other:
    def name(self): return self._session
"""


def test_private_names_are_found():
    found = [use.partition(": ")[2] for use in uses({"sample.py": ast.parse(SAMPLE)})]
    assert sorted(found) == ["_PLURALS", "def _opened", "self._clear_scratch", "self._context", "self._session"]
