"""The checks of this repository. `nox` alone runs lint, typing and the quick tests; `nox --list` shows the rest."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typing", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
CORE = "./core[clean,data,demo,media,remote,top,view]"
PLUGINS = sorted(path.parent.name for path in Path("plugins").glob("*/pyproject.toml"))
# Not in pyproject.toml, because uv.lock cannot say which build of torch suits a machine. The pin matters: an
# unpinned torch may resolve to a build with gigabytes of CUDA.
FRAMEWORKS = [
    "torch==2.13.0",
    "lightning>=2.5",
    "accelerate>=1",
    "transformers>=4.57",
    "catboost>=1.2",
    "keras>=3.9",
    "lightgbm>=4.7",
    "optuna>=4",
    "polars>=1",
    "pytorch-ignite>=0.5",
    "stable-baselines3>=2.3",
    "tensorboardX>=2.6",
    "trackio>=0.43",
    "trl>=1",
    "xgboost-cpu>=3",
]

PLAYWRIGHT = "playwright>=1.50"  # tests with a browser are skipped where Chromium is not installed

# More than a gigabyte, and torchtitan needs older versions of what others need.
LARGE_FRAMEWORKS = [
    *FRAMEWORKS[:1],
    "deepspeed>=0.19",
    "ray[train,tune]>=2.60",
    "torchao<0.16",  # torchtune 0.6 imports what later ones have moved
    "torchtitan>=0.3",
    "torchtune>=0.6",
    "triton==3.7.1",  # torchtitan imports it; the version that belongs to torch 2.13
    # what fastai and Composer import
    *("cloudpickle", "fastcore", "fastdownload", "fastprogress", "fasttransform", "plum-dispatch<2.10"),
    *("coolname", "importlib-metadata", "mosaicml-cli", "tabulate", "torch-optimizer", "torchmetrics"),
]
# Their requirements exclude this torch. Later versions of torchvision cannot be imported without a CUDA build of torch.
WITHOUT_REQUIREMENTS = ["fastai>=2.8", "mosaicml>=0.32", "torchvision==0.15.2"]

# uv does not read pip's settings. Without local wheels it takes torch's CPU build: no test needs a GPU.
if find_links := os.environ.get("PIP_FIND_LINKS"):
    os.environ.setdefault("UV_FIND_LINKS", ",".join(find_links.split()))
else:
    os.environ.setdefault("UV_TORCH_BACKEND", "cpu")

TEST_ENV = {
    # Hundreds of processes import torch or an SDK: the first one compiles it for all.
    "PYTHONDONTWRITEBYTECODE": "",
    # One thread for each worker: torch would otherwise start one for each core in every one of them.
    "OMP_NUM_THREADS": "1",
}

# What all test processes import, in two parts that have little in common.
IMPORTED = [
    "ignite.metrics, keras, lightning.pytorch, torch.distributed.tensor.debug, torch.utils.tensorboard, "
    "transformers.trainer",
    "comet_ml, datasets, duckdb, hydra, hypothesis, lightgbm, matplotlib.pyplot, mlflow.server, neptune, optuna, "
    "polars, sklearn.linear_model, textual.app, wandb, xgboost",
]


def group(name: str) -> list[str]:
    """The requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


def packages() -> list[str]:
    """Core and the plugins, each with all that it can use."""
    found = [CORE]
    for name in PLUGINS:
        extras = nox.project.load_toml(f"plugins/{name}/pyproject.toml")["project"].get("optional-dependencies")
        found.append(f"./plugins/{name}" + (f"[{','.join(extras)}]" if extras else ""))
    return found


def editable(packages: list[str]) -> list[str]:
    """The arguments that install packages as they are in the repository."""
    return [argument for package in packages for argument in ("-e", package)]


@nox.session
def lint(session: nox.Session) -> None:
    """Find mistakes, and code that is not formatted."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of everything that users import."""
    session.install("-e", "./core", *group("typing"))  # no plugins: to mypy, SDKs are Any
    session.run("mypy", "--strict", "core/src", *(f"plugins/{name}/src" for name in PLUGINS))


@nox.session
def tests(session: nox.Session) -> None:
    """Run the quick tests, the slow ones, or those named: nox -s tests -- -m slow; nox -s tests -- tests/journal."""
    session.install(*editable(packages()), *group("test"), *FRAMEWORKS, PLAYWRIGHT)
    # Neptune's client requires it, no test needs it, and where it is installed Comet's and Neptune's client take 1.6
    # seconds longer to import, in each of hundreds of processes.
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "rfc3987-syntax")
    compile_imports(session)
    # Many tests wait for another process, so there are more workers than cores. Neighbouring tests go to one worker:
    # they share what takes long to import and to start.
    workers = str(min(8, 3 * (os.cpu_count() or 2)))
    # When something that all need is broken, tests wait in vain: the run ends early, and says what failed.
    limits = ["--maxfail=30", "--session-timeout=2400", "--durations=20"]
    default = ["-m", "not slow"]  # another -m replaces it
    session.run("pytest", "-n", workers, "--dist", "worksteal", *limits, *default, *session.posargs, env=TEST_ENV)


def compile_imports(session: nox.Session) -> None:
    """Compile what the tests import if the installer has not: otherwise every worker compiles it, at the same time."""
    if any(Path(session.virtualenv.location).glob("lib/*/site-packages/torch/__pycache__/*.pyc")):
        return
    env = {**TEST_ENV, "KERAS_BACKEND": "torch"}  # as in tests/conftest.py
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda names: session.run("python", "-c", f"import {names}", env=env), IMPORTED))


@nox.session
def picture(session: nox.Session) -> None:
    """Draw the picture of the page of runs for the documentation, in Chromium."""
    session.install(*editable([CORE, "./plugins/tensorboard"]), *group("test"), *FRAMEWORKS[:1], PLAYWRIGHT)
    session.run("python", "docs/pictures/draw_page.py", env=TEST_ENV)


@nox.session
def large_frameworks(session: nox.Session) -> None:
    """Run the tests of frameworks that are too large for the other sessions, such as Ray and DeepSpeed."""
    session.install(*editable([CORE]), *group("test"), *LARGE_FRAMEWORKS)
    session.install("--no-deps", *WITHOUT_REQUIREMENTS)
    # Ray imports it where it is installed, which fails without AMD's driver.
    session.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "amdsmi")
    session.run("pytest", "tests/integrations/large_frameworks.py", *session.posargs, env=TEST_ENV)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install(*editable(packages()), *group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-E", "docs", "docs/_build", *session.posargs)


@nox.session
def install(session: nox.Session) -> None:
    """Install as users do, in clean environments: released wheels, and with pip from the checkout."""
    session.install("pip", "uv")
    core, tmp = Path("core").resolve(), Path(session.create_tmp()).resolve()
    session.run("uv", "build", "--quiet", "--all-packages", "--clear", "--out-dir", str(tmp / "dist"))
    session.chdir(tmp)  # a checkout that is the working directory would be imported
    wheels = {path.name.partition("-")[0]: str(path) for path in (tmp / "dist").glob("*.whl")}
    check(session, environment(session, "rankzero", wheels["rankzero"]))
    for name in PLUGINS:
        venv = environment(session, name, f"{wheels['rankzero']}[{name}]", wheels[f"rankzero_{name}"])
        check(session, venv, name)
    # What the plugins need is there already, and only rankzero is installed anew.
    first, *_, last = PLUGINS
    session.run("uv", "pip", "uninstall", "--quiet", "--python", str(venv), "rankzero", f"rankzero-{last}")
    pip = ("pip", "--python", str(venv), "install", "--quiet")
    session.run(*pip, f"{core}[{last}]")
    check(session, venv, last)
    session.run(*pip, f"rankzero[{first}]")  # as `rankzero loggers` says
    check(session, venv, first, last)


def environment(session: nox.Session, name: str, *wheels: str) -> Path:
    """Make an environment with wheels."""
    venv = Path.cwd() / name
    session.run("uv", "venv", "--quiet", "--clear", "--python", session.python or sys.executable, str(venv))
    session.run("uv", "pip", "install", "--quiet", "--no-config", "--python", str(venv), *wheels)
    return venv


def check(session: nox.Session, venv: Path, *plugins: str) -> None:
    """See that an environment has modules with types, loggers that are in order, and the command."""
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")
    for module in ("rankzero", *(f"rankzero_{name}" for name in plugins)):
        typed = f"import importlib.resources as r, {module}; assert r.files({module!r}).joinpath('py.typed').is_file()"
        session.run(str(scripts / "python"), "-c", typed, external=True)
    session.run(str(scripts / "rankzero"), "loggers", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what the design promises; each number is printed beside its limit."""
    session.install(*packages(), *group("test"), *FRAMEWORKS, "mlflow-export-import>=1.2", "tabulate")
    failed = []
    for script in sorted(Path("tests/benchmarks").glob("bench_*.py")):
        try:
            session.run("python", str(script), *session.posargs)
        except CommandFailed:
            failed.append(script.name)
    if failed:
        session.error(f"over the limit: {', '.join(failed)}")
