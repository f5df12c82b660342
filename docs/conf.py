"""Sphinx configuration; the build needs nothing from outside."""

from contextlib import redirect_stdout
from importlib.metadata import version as installed_version
from io import StringIO
from pathlib import Path

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

# what scripts/reports.py wrote, as reports/NAME.html
html_extra_path = ["_build/live"] if (Path(__file__).parent / "_build" / "live").is_dir() else []
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


FOR_EVERYONE = {
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="This page">',
    "<pre>": '<pre tabindex="0">',
    '<th class="head"><p></p></th>': "<td></td>",
}
"""What the theme writes, and what keyboards and screen readers need."""


def _for_everyone(app: Sphinx, exception: Exception | None) -> None:
    """Mend what axe finds in the theme's pages."""
    if exception is not None or app.builder.name != "html":
        return
    for name in app.env.found_docs:
        path = Path(app.builder.get_outfilename(name))  # type: ignore[attr-defined]
        text = path.read_text(encoding="utf-8")
        for written, needed in FOR_EVERYONE.items():
            text = text.replace(written, needed)
        path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _with_commands)
    app.connect("build-finished", _for_everyone)
