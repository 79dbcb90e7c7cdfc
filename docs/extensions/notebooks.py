"""Notebooks to download: the cells of a tutorial, without outputs.

MyST-NB writes each tutorial as a notebook, with outputs only if it was executed just now and not
taken from the cache. A reader runs it anyway.
"""

# pyright: reportMissingImports=false

from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx


def clear(app: Sphinx, doctree: Any) -> None:
    """Removes the outputs of the notebook of the page that was just read."""
    path = Path(app.outdir).parent / "jupyter_execute" / f"{app.env.docname}.ipynb"
    if path.exists():
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("doctree-read", clear)
    return {"version": "1", "parallel_read_safe": True}
