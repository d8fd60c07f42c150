"""The imports of core run one way, nothing heavy is imported with it, and no tracker is named in it."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rankzero

SOURCE = Path(rankzero.__file__).parent
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}
# What people write without the rest of the package knowing of it: the front, the command line, its packages
PUBLIC = {
    "CSVLogger", "DummyExperiment", "DummyLogger", "Logger", "LoggerCollection", "Run", "deliver", "hookimpl",
    "is_rank_zero", "merge_dicts", "rank_zero_experiment", "rank_zero_info", "rank_zero_only", "rank_zero_warn",
    "read_run", "start",
}  # fmt: skip


def imports(tree):
    """Yield (module, name) of what a module imports when it is imported itself: not in functions, not for typing."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from imports(ast.Module(node.orelse, []))
        else:
            yield from imports(node)


def graph():
    found = {}
    for module, path in MODULES.items():
        names = imports(ast.parse(path.read_text()))
        targets = {f"{source}.{name}" if f"{source}.{name}" in MODULES else source for source, name in names}
        found[module] = targets & MODULES.keys() - {module}
    return found


def test_imports_have_no_cycle():
    found = graph()
    assert found["rankzero.run.run"] > {"rankzero.journal.append", "rankzero.run.endings"}  # the graph is one
    order = list(graphlib.TopologicalSorter(found).static_order())  # raises CycleError, which names the modules
    print("\n".join(order))
    assert order.index("rankzero.rank") < order.index("rankzero.loggers.base") < order.index("rankzero.run.run")


@pytest.mark.parametrize("text", ["import a\nfrom b import c", "try:\n import a\nfinally:\n from b import c"])
def test_imports_are_found(text):
    hidden = "def f(): import d\nif TYPE_CHECKING:\n import e\n"
    assert list(imports(ast.parse(hidden + text))) == [("a", None), ("b", "c")]


def test_no_tracker_is_named():
    trackers = re.compile("wandb|weights.?(and|&).?biases|mlflow|comet|neptune|tensorboard", re.IGNORECASE)
    lines = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in MODULES.values()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if trackers.search(line)
    ]
    assert lines == []


HEAVY = [
    "torch", "numpy", "pandas", "PIL", "pyarrow", "matplotlib", "fsspec", "yaml", "tenacity", "rich", "typer", "pluggy",
    "filelock", "asyncio", "multiprocessing",
]  # fmt: skip


def test_importing_rankzero_imports_nothing_heavy():
    code = f"import sys, rankzero; print([name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


def test_public_names():
    assert set(rankzero.__all__) >= PUBLIC
    assert list(rankzero.__all__) == sorted(rankzero.__all__)
    assert dir(rankzero) == sorted([*rankzero.__all__, "__version__"])


@pytest.mark.parametrize("name", rankzero.__all__)
def test_public_name_is_there_and_documented(name):
    assert getattr(rankzero, name).__doc__ or name == "hookimpl"


def test_nothing_else_is_public():
    code = "import rankzero; print([n for n in vars(rankzero) if n[0] != '_' and n not in rankzero.__all__])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    others = set(ast.literal_eval(run.stdout)) - {"annotations", "importlib"}
    assert {name for name in others if f"rankzero.{name}" not in MODULES} == {"TYPE_CHECKING", "Any"}


def test_unknown_name_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'begin'"):
        rankzero.begin  # noqa: B018
