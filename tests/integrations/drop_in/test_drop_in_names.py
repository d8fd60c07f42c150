"""The API: arguments, methods, properties."""

import inspect

from integrations.drop_in.page import compare
from lightning.fabric.loggers import Logger as FabricLogger
from lightning.pytorch.loggers import Logger

EMPTY = inspect.Parameter.empty


def test_arguments(bench):
    theirs, ours = ({each.name: each for each in inspect.signature(kind).parameters.values()} for kind in bench.kinds)
    named = [name for name, each in theirs.items() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    assert list(ours)[: len(named)] == named, "in this order"
    assert [ours[name].kind for name in named] == [theirs[name].kind for name in named]
    compare(bench.tracker, *({f"{name} by default": kind[name].default for name in named} for kind in (theirs, ours)))


def test_public_names(bench):
    missing = [name for name in dir(bench.theirs) if not name.startswith("_") and not hasattr(bench.ours, name)]
    assert missing == []


def test_methods_accept_the_arguments_of_lightnings(bench):
    for name in dir(bench.theirs):
        method = getattr(bench.theirs, name)
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        ours = list(inspect.signature(getattr(bench.ours, name)).parameters.values())
        for index, each in enumerate(inspect.signature(method).parameters.values()):
            if each.kind is inspect.Parameter.VAR_KEYWORD:
                assert ours[-1].kind is each.kind
            else:
                assert ours[index].name == each.name, name
                assert each.default is EMPTY or ours[index].default == each.default, name


def test_type_checks(bench):
    """As LightningCLI, the Trainer and scripts make them."""
    assert all(issubclass(bench.ours, each) for each in (Logger, FabricLogger, bench.theirs))
    assert isinstance(bench.make(bench.ours, "a"), bench.theirs)
