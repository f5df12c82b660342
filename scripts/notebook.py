"""Run the cells of docs/notebook.ipynb one after another and write what they show into it.

It needs no notebook server: a cell's last expression is shown as a notebook would show it. Tests
run the cells and compare their texts with the file's.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """``notebook`` with the outputs of its cells, run in a new folder."""
    before, names = Path.cwd(), {"__name__": "notebook"}
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            cells = [_executed(cell, names) for cell in notebook["cells"]]
        finally:
            os.chdir(before)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, 1):
        cell["execution_count"] = number
        for output in cell["outputs"]:
            if output["output_type"] == "execute_result":
                output["execution_count"] = number
    return notebook | {"cells": cells}


def _executed(cell: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    if cell["cell_type"] != "code":
        return cell
    tree, printed = ast.parse("".join(cell["source"])), io.StringIO()
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102 (the project's own cells)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(text)})
    if value is not None:
        outputs.append({"output_type": "execute_result", "metadata": {}, "data": shown(value)})
    return cell | {"outputs": outputs}


def shown(value: Any) -> dict[str, Any]:
    """What a notebook keeps of ``value``, by media type."""
    if hasattr(value, "_repr_mimebundle_"):
        return dict(value._repr_mimebundle_())
    data: dict[str, Any] = {"text/plain": _lines(repr(value))}
    if hasattr(value, "_repr_html_") and (text := value._repr_html_()):
        data["text/html"] = _lines(text)
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode("ascii")
    return data


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> int:
    """Write the notebook anew."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    text = json.dumps(executed(notebook), indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(text + "\n", encoding="utf-8")
    print(NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
