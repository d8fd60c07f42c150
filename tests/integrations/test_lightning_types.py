"""Lightning's type checks accept rankzero's loggers, in any order of imports."""

import subprocess
import sys
import textwrap

import pytest
from waiting import A_WHILE

import rankzero

pytest.importorskip("lightning")
import lightning.fabric.loggers
import lightning.pytorch.loggers
from lightning.pytorch import Trainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*isinstance.treespec")

BASES = [lightning.pytorch.loggers.Logger, lightning.fabric.loggers.Logger]


class Own(rankzero.Logger):
    """As a user writes it."""

    name = version = "own"

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass


@pytest.mark.parametrize("base", BASES)
def test_every_logger_and_a_run_is_one(base):
    for ours in (rankzero.Logger, rankzero.Run, rankzero.CSVLogger, rankzero.DummyLogger, Own):
        assert issubclass(ours, base)
    assert isinstance(Own(), base)
    assert not issubclass(rankzero.DummyExperiment, base)
    assert not isinstance("csv", base)


def test_a_class_of_the_same_name_is_one_of_those():
    theirs = lightning.pytorch.loggers
    assert issubclass(rankzero.CSVLogger, theirs.CSVLogger)
    assert not issubclass(rankzero.CSVLogger, theirs.WandbLogger)
    assert not issubclass(Own, theirs.CSVLogger)
    assert not issubclass(rankzero.Run, theirs.CSVLogger)
    assert not issubclass(theirs.CSVLogger, theirs.WandbLogger)


def test_so_the_trainers_directory_is_that_of_the_version(tmp_path):
    ours, theirs = rankzero.CSVLogger(tmp_path / "ours"), lightning.pytorch.loggers.CSVLogger(tmp_path / "theirs")
    directories = [Trainer(logger=each, accelerator="cpu").log_dir for each in (ours, theirs)]
    places = [f"{tmp_path}/{name}/lightning_logs/version_0" for name in ("ours", "theirs")]
    assert directories == places


@pytest.mark.slow
@pytest.mark.parametrize(
    "order",
    [
        ["rankzero", "rankzero.loggers.csv.logger", "lightning.fabric", "lightning.pytorch", "pytorch_lightning"],
        ["lightning.pytorch", "rankzero"],
    ],
    ids=["rankzero first", "lightning first"],
)
def test_in_any_order_of_imports(order):
    code = f"""
    import importlib, warnings
    warnings.simplefilter("ignore")
    imported = {{name: importlib.import_module(name) for name in {order}}}
    classes = imported["rankzero"].CSVLogger, imported["rankzero"].Run
    for name in imported:
        if "lightning" in name:
            base = importlib.import_module(name + ".loggers").Logger
            assert all(issubclass(each, base) for each in classes), name
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=A_WHILE
    )
    assert done.returncode == 0, done.stderr


def test_nothing_of_lightning_is_imported():
    code = "import sys, rankzero; rankzero.CSVLogger; print([n for n in sys.modules if 'lightning' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=A_WHILE)
    assert done.stdout.strip() == "['rankzero.loggers.lightning']"


def test_importing_the_contract_installs_no_import_hook():
    code = "import sys; before = sys.meta_path[:]; import rankzero.loggers.base; print(sys.meta_path == before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=A_WHILE)
    assert done.stdout.strip() == "True"


@pytest.mark.slow
def test_modules_that_are_only_named_like_lightnings(tmp_path):
    (tmp_path / "lightning_mine.py").write_text(
        "import rankzero\nfrom lightning.pytorch.loggers import Logger as Theirs\n"
        "class Both(rankzero.Logger, Theirs): pass\n"
        "class Logger(Theirs): pass\n"
    )
    script = (
        "import rankzero, lightning_mine, lightning.pytorch.demos\n"
        "assert not issubclass(rankzero.CSVLogger, lightning_mine.Logger)\n"
        "assert issubclass(lightning_mine.Both, lightning_mine.Theirs)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
