"""Sphinx configuration; the build needs nothing from outside."""

from importlib.metadata import version as installed_version

project = "moesim"
author = "The moesim authors"
project_copyright = "The moesim authors"
version = release = installed_version("moesim")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
suppress_warnings = ["ref.python"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"moesim {version}"
html_copy_source = False
html_show_sphinx = False
