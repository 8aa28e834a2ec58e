"""Sphinx configuration; builds offline: sphinx-build -W docs docs/_build."""

from vfusion3d import __version__

project = "vfusion3d"
author = "The vfusion3d developers"
copyright = "The vfusion3d developers, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
default_role = "code"  # single backticks in docstrings are code

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "vfusion3d"
html_static_path: list[str] = []
