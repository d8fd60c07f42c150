"""How Sphinx builds the documentation: nox -s docs."""

from importlib.metadata import version as installed_version

project = "rankzero"
author = "The rankzero developers"
copyright = author
release = version = installed_version("rankzero")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"rankzero {release}"

smartquotes = False  # it makes a dash of the two hyphens of an option

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_mock_imports = [  # not installed to build the documentation
    "accelerate",
    "composer",
    "fastai",
    "hydra",
    "ignite",
    "keras",
    "optuna",
    "torchtitan",
    "transformers",
    "xgboost",
]
autodoc_typehints = "description"
napoleon_numpy_docstring = False

# Only our own names have to resolve: looking up other projects' would need the network.
nitpick_ignore_regex = [("py:.*", r"(?!rankzero\b).*"), ("py:class", r"rankzero(\.\w+)+\.[A-Z]")]  # and type variables
