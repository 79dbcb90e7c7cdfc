"""Docstrings and signatures of dncx, for the reference.

Docstrings are written to be read in an editor: equations in Unicode, in which | and * are no
markup, and indented blocks that keep their lines.
"""

# pyright: reportMissingImports=false

import re
from typing import Any

from docstring_markup import as_restructured_text
from flax import nnx
from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

# Sphinx writes these types out.
TYPES = {
    r"~?(\w+\.)*_jax\.Array": "Array",
    r"Array \| \S+ndarray \| \S+bool \| \S+number \| bool \| int \| float \| complex": "ArrayLike",
    r"str \| type\[\S+\] \| \S*dtype \| \S+SupportsDType": "DTypeLike",
    r"<class 'jax.numpy.float32'>": "jnp.float32",
}


def convert(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Converts a docstring in place."""
    lines[:] = as_restructured_text(lines)
    if what in ("attribute", "data", "property"):
        # After an empty comment, or napoleon would take the words before a colon as a type.
        lines[:0] = ["..", ""]


def shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returns: Any
) -> tuple[str | None, str | None] | None:
    """The arguments of a module's constructor, and short names of types."""
    if what == "class" and isinstance(obj, type) and issubclass(obj, nnx.Module):
        found = signature(obj.__init__, bound_method=True)  # Sphinx sees that of nnx.Module
        arguments = stringify_signature(
            found, show_return_annotation=False, unqualified_typehints=True
        )
    return _with_short_types(arguments), _with_short_types(returns)


def _with_short_types(text: str | None) -> str | None:
    for pattern, name in TYPES.items():
        text = text and re.sub(pattern, name, text)
    return text


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    # Before napoleon, whose priority is the default of 500.
    app.connect("autodoc-process-docstring", convert, priority=400)
    app.connect("autodoc-process-signature", shorten)
    return {"version": "1", "parallel_read_safe": True}
