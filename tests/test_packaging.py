"""The requirements of the packages: each other in matching versions, and no version with a known advisory."""

import shutil
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
CORE = REPOSITORY / "core"
PLUGINS = sorted(path.parent for path in REPOSITORY.glob("plugins/*/pyproject.toml"))
WITH_ADVISORIES = {  # the newest version that one is known of
    "filelock": ["3.20.2"],
    "mlflow": ["3.10.1"],
    "pillow": ["12.2.0"],
    "protobuf": ["4.25.8", "5.29.5", "6.33.4"],
    "pyarrow": ["23.0.0"],
    "scikit-learn": ["1.4.2"],
}


def built(directory):
    """What a build of the package would say of it."""
    return ProjectMetadata(str(directory), PluginManager()).core


def required(package):
    """Everything that a package requires."""
    extras = package.optional_dependencies.values()
    return [Requirement(text) for text in [*package.dependencies, *(text for extra in extras for text in extra)]]


def refuses_the_next(requirement, version):
    major, minor = map(int, version.split(".")[:2])
    return not requirement.specifier.contains(f"{major}.{minor + 1}.0") and requirement.specifier.contains(version)


@pytest.mark.parametrize("directory", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_and_its_extra_say_which_versions_fit(directory, monkeypatch):
    monkeypatch.delenv("PIP_BUILD_TRACKER", raising=False)
    core, plugin = built(CORE), built(directory)
    (of_core,) = (each for each in required(plugin) if each.name == "rankzero")
    assert refuses_the_next(of_core, core.version)
    (extra,) = map(Requirement, core.optional_dependencies[directory.name])
    assert extra.name == plugin.name
    assert refuses_the_next(extra, plugin.version)


@pytest.mark.parametrize("directory", [CORE, *PLUGINS], ids=lambda path: path.name)
def test_versions_with_a_known_advisory_are_excluded(directory):
    for requirement in required(built(directory)):
        admitted = [each for each in WITH_ADVISORIES.get(requirement.name, []) if requirement.specifier.contains(each)]
        assert admitted == [], requirement


def test_an_extra_is_the_plugin_of_the_checkout_that_pip_installs_from(monkeypatch):
    monkeypatch.setenv("PIP_BUILD_TRACKER", "/tmp")
    extras = built(CORE).optional_dependencies
    for directory in PLUGINS:
        assert extras[directory.name] == [f"rankzero-{directory.name} @ {directory.as_uri()}"]
    assert "file:" not in "".join(extras["data"])


def test_an_sdist_does_not_refer_to_what_lies_beside_it(monkeypatch, tmp_path):
    """Pip unpacks it where others may write."""
    monkeypatch.setenv("PIP_BUILD_TRACKER", "/tmp")
    (tmp_path / "plugins" / "wandb").mkdir(parents=True)
    sdist = tmp_path / "sdist"
    sdist.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(CORE / name, sdist)
    wandb = "Provides-Extra: wandb\nRequires-Dist: rankzero-wandb>=0.1; extra == 'wandb'\n"
    (sdist / "PKG-INFO").write_text(f"Metadata-Version: 2.4\nName: rankzero\nVersion: 0.1.0\n{wandb}")
    assert built(sdist).optional_dependencies["wandb"] == ["rankzero-wandb>=0.1"]
