"""The plugins use nothing of core whose name begins with an underscore: what they need, everybody's plugin may use."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "src").is_dir())
FOR_PLUGINS = ("adapter.py", "base.py", "options.py", "verbs.py")
"""Where the classes are that a plugin derives from."""
NOT_YET = {"comet", "mlflow", "neptune", "wandb"}
"""Those that are still to be written with `TrackerLogger`."""


def trees(directory: Path) -> dict[str, ast.Module]:
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted(directory.rglob("*.py"))}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names_of_core() -> set[str]:
    """What the classes that a plugin derives from keep to themselves: methods and attributes."""
    found = set()
    for path in FOR_PLUGINS:
        tree = ast.parse((ROOT / "core/src/rankzero/loggers" / path).read_text())
        for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for node in ast.walk(owner):
                if isinstance(node, ast.FunctionDef):
                    found.add(node.name)
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    found.add(node.attr)
    return {name for name in found if is_private(name)}


def heirs_of_core(modules: list[ast.Module]) -> set[str]:
    """The classes of a plugin that derive from one of core, perhaps by way of others."""
    imported = {
        alias.asname or alias.name
        for tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rankzero"
        for alias in node.names
    }
    classes = [node for tree in modules for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    heirs: set[str] = set()
    while new := {
        each.name
        for each in classes
        if each.name not in heirs and any(ast.unparse(base) in imported | heirs for base in each.bases)
    }:
        heirs |= new
    return heirs


def uses(modules: dict[str, ast.Module], private: set[str]) -> Iterator[str]:
    heirs = heirs_of_core(list(modules.values()))
    for path, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rankzero":
                yield from (f"{path}:{node.lineno}: {alias.name}" for alias in node.names if is_private(alias.name))
            elif isinstance(node, ast.ClassDef) and node.name in heirs:
                for each in ast.walk(node):
                    if isinstance(each, ast.FunctionDef) and each.name in private:
                        yield f"{path}:{each.lineno}: def {each.name}"
                    elif isinstance(each, ast.Attribute) and each.attr in private:
                        yield f"{path}:{each.lineno}: {ast.unparse(each)}"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_uses_nothing_private_of_core(plugin):
    found = list(uses(trees(ROOT / "plugins" / plugin / "src"), private_names_of_core()))
    if plugin in NOT_YET:
        assert found, f"{plugin} can be taken off the list of those that are not written with TrackerLogger yet"
    else:
        assert found == []


SAMPLE = """
from rankzero.loggers.adapter import TrackerLogger, _PLURALS
class Mine(TrackerLogger):
    def _opened(self): return self._clear_scratch()
class Ours(Mine):
    def name(self): return self._session
class Other:
    def name(self): return self._session
"""


def test_private_names_are_found():
    found = [use.partition(": ")[2] for use in uses({"sample.py": ast.parse(SAMPLE)}, private_names_of_core())]
    assert sorted(found) == ["_PLURALS", "def _opened", "self._clear_scratch", "self._session"]
