"""Writes the explorer of models that ship with dncx into the site.

    ```{explorer} associative-recall
    :title: A description of the frame for screen readers
    :height: 700
    ```

shows the page that `dncx explore associative-recall` writes. The site has one page for each model.
"""

# pyright: reportMissingImports=false

from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from dncx import explore

FOLDER = "explorer"
EPISODES = 2


class Explorer(SphinxDirective):
    """A frame with the explorer, and a link that opens it alone."""

    outdir: ClassVar[Path]  # of the site
    required_arguments = 1
    option_spec: ClassVar[Any] = {
        "title": directives.unchanged_required,
        "height": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """The frame; writes its page, unless an earlier build did."""
        model = self.arguments[0]
        written = self.outdir / FOLDER / f"{model}.html"
        if not written.exists():
            written.parent.mkdir(parents=True, exist_ok=True)
            explore.page(explore.trace_run(model, num_episodes=EPISODES), written)
        up = "../" * self.env.docname.count("/")
        page, height = f"{up}{FOLDER}/{model}.html", self.options.get("height", 640)
        frame = (
            f'<iframe class="explorer" src="{page}" title="{self.options["title"]}" '
            f'loading="lazy" height="{height}"></iframe>'
            f'<p class="explorer-link"><a href="{page}">Open the explorer in full size</a></p>'
        )
        return [nodes.raw("", frame, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("explorer", Explorer)
    Explorer.outdir = Path(app.outdir)
    return {"version": "1", "parallel_read_safe": False}
