"""Sphinx configuration; the build needs nothing from outside."""

from contextlib import redirect_stdout
from importlib.metadata import version as installed_version
from io import StringIO

from sphinx.application import Sphinx

from moesim.cli.main import commands, main

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
autodoc_default_options = {"exclude-members": "model_config"}

html_theme = "furo"
html_title = f"moesim {version}"
html_copy_source = False
html_show_sphinx = False


def _with_commands(_app: object, page: str, source: list[str]) -> None:
    """Fill the page of the commands with their help."""
    if page != "commands":
        return
    for name, _ in commands():
        shown = StringIO()
        with redirect_stdout(shown):
            main([*name.split()[1:], "--help"])
        source[0] += f"\n## {name}\n\n```text\n{shown.getvalue().strip()}\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _with_commands)
