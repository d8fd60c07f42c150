"""The checks of this repository. `nox` alone runs lint, typing and tests; `nox --list` shows the rest."""

import os
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "typing", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
CORE = "./core[data,demo,media,remote]"
# Not in pyproject.toml, because uv.lock cannot say which build of torch suits a machine. The pin matters: an
# unpinned torch may resolve to a build with gigabytes of CUDA.
FRAMEWORKS = ["torch==2.13.0", "lightning>=2.5"]

# uv does not read pip's settings. Without local wheels it takes torch's CPU build: no test needs a GPU.
if find_links := os.environ.get("PIP_FIND_LINKS"):
    os.environ.setdefault("UV_FIND_LINKS", ",".join(find_links.split()))
else:
    os.environ.setdefault("UV_TORCH_BACKEND", "cpu")


def group(name: str) -> list[str]:
    """The requirements of one dependency group."""
    return nox.project.dependency_groups(PYPROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Find mistakes, and code that is not formatted."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of everything that users import."""
    session.install("-e", "./core", *group("typing"))
    session.run("mypy", "--strict", "core/src")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, or those named: nox -s tests -- tests/core -k journal."""
    session.install("-e", CORE, *group("test"), *FRAMEWORKS)
    # One thread for each worker: torch would otherwise start one for each core in every one of them.
    env = {"OMP_NUM_THREADS": "1"}
    session.run("pytest", "-n", "logical", "--maxprocesses", "4", *session.posargs, env=env)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", CORE, *group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-n", "-E", "docs", "docs/_build", *session.posargs)


@nox.session
def install(session: nox.Session) -> None:
    """Build the wheel and use it as a user would: in a clean environment, from outside the repository."""
    session.install("build")
    tmp = Path(session.create_tmp()).resolve()
    dist, venv = tmp / "dist", tmp / "venv"
    session.run("python", "-m", "build", "--outdir", str(dist), "core")
    session.run("python", "-m", "venv", "--clear", str(venv))
    scripts = venv / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    wheel = max(dist.glob("*.whl"), key=os.path.getmtime)
    session.chdir(tmp)
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel), external=True)
    session.run(python, "-c", "import rankzero", external=True)
    session.run(str(scripts / "rankzero"), "--help", external=True)
    typed = "import importlib.resources as r; assert r.files('rankzero').joinpath('py.typed').is_file()"
    session.run(python, "-c", typed, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what the design promises; each number is printed beside its limit."""
    session.install(CORE, *group("test"), *FRAMEWORKS)
    failed = []
    for script in sorted(Path("tests/benchmarks").glob("bench_*.py")):
        try:
            session.run("python", str(script), *session.posargs)
        except CommandFailed:
            failed.append(script.name)
    if failed:
        session.error(f"over the limit: {', '.join(failed)}")
