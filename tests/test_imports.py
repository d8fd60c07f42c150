"""The imports of core run one way, nothing heavy is imported with it, and no tracker is named in it."""

import ast
import functools
import graphlib
import importlib
import re
import subprocess
import symtable
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


# Each room imports only from those before it: docs/explanation say what is in them.
ROOMS = [
    "errors", "messages", "values", "waiting", "rank", "files", "processes", "rundir.layout", "secrets", "media",
    "events", "journal", "rundir", "capture", "plugins", "loggers", "recorder", "config", "reader", "delivery", "run",
    "importers", "compat.replaced", "integrations", "compat", "testing", "rankzero", "cli",
]  # fmt: skip
MOST_NAMES = 25
MOST_FLOORS = 15


def imports(tree):
    """Yield each module, or ``module.name``, that a module imports: in functions and for typing, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def graph():
    found = {}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)), "relative import"
        names = set(imports(tree))
        names |= {name.rpartition(".")[0] for name in names - MODULES.keys()}
        found[module] = names & MODULES.keys() - {module}
    return found


def room_of(module):
    name = module.removeprefix("rankzero.")
    return name if name in ROOMS else name.split(".")[0]


def test_every_import_is_found():
    text = """
def f():
    import a
if TYPE_CHECKING:
    from b import c
try:
    import d.e
finally:
    pass
"""
    assert sorted(imports(ast.parse(text))) == ["a", "b.c", "d.e"]
    assert graph()["rankzero.run.run"] > {"rankzero.run.base", "rankzero.recorder.recorder"}


def test_every_room_has_its_place():
    names = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    names.remove("__init__")
    assert {*ROOMS} - {"rundir.layout", "compat.replaced"} == names | {"rankzero"}
    assert len(names) <= MOST_NAMES


def test_rooms_import_only_from_those_before_them():
    places = {room: place for place, room in enumerate(ROOMS)}
    found = graph()
    upwards = {
        (module, other)
        for module in found
        for other in found[module]
        if places[room_of(other)] > places[room_of(module)]
    }
    assert upwards == set()


def test_imports_have_no_cycles_and_few_layers():
    found, floors = graph(), {}
    for module in graphlib.TopologicalSorter(found).static_order():  # raises CycleError, which names the modules
        floors[module] = 1 + max((floors[other] for other in found[module]), default=0)
    highest = max(floors.values())
    assert highest <= MOST_FLOORS, f"{highest} floors of imports"


def names_of(module):
    """Return the names that the code of a module binds."""
    path = MODULES[module]
    symbols = symtable.symtable(path.read_text(), str(path), "exec").get_symbols()
    return {each.get_name() for each in symbols if each.is_assigned() or each.is_imported()}


def test_names_that_tests_and_plugins_import_from_core_exist():
    repository = Path(__file__).parents[1]
    found = [*repository.glob("tests/**/*.py"), *repository.glob("plugins/*/src/**/*.py")]
    names = {name for path in found for name in imports(ast.parse(path.read_text())) if name.startswith("rankzero.")}
    missing = []
    for name in sorted(names - MODULES.keys()):
        module, _, attribute = name.rpartition(".")
        # Importing every module would import every framework.
        if attribute not in names_of(module) and not hasattr(importlib.import_module(module), attribute):
            missing.append(name)
    assert missing == []


def test_core_names_no_tracker():
    trackers = re.compile("wandb|weights.?(and|&).?biases|mlflow|comet|neptune|tensorboard", re.IGNORECASE)
    lines = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in MODULES.values()
        if SOURCE / "compat" not in path.parents  # which is there to look like trackers
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if trackers.search(line)
    ]
    assert lines == []


HEAVY = [
    "torch", "numpy", "pandas", "PIL", "pyarrow", "matplotlib", "fsspec", "yaml", "rich", "typer", "pluggy",
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
