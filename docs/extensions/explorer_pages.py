"""Writes the explorer of models that ship with dncx into the site.

    ```{explorer} associative-recall
    :title: What the frame shows, for screen readers
    :height: 700
    ```

shows the page that `dncx explore associative-recall` writes. One page is made for each model, when
the site is built.
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

    required_arguments = 1
    option_spec: ClassVar[Any] = {
        "title": directives.unchanged_required,
        "height": directives.positive_int,
    }

    def run(self) -> list[nodes.Node]:
        """The frame; the builder's last step writes its page."""
        model = self.arguments[0]
        models = getattr(self.env, "explorer_models", {})
        models.setdefault(model, set()).add(self.env.docname)
        self.env.explorer_models = models  # pyright: ignore[reportAttributeAccessIssue]
        up = "../" * self.env.docname.count("/")
        page, height = f"{up}{FOLDER}/{model}.html", self.options.get("height", 640)
        frame = (
            f'<iframe class="explorer" src="{page}" title="{self.options["title"]}" '
            f'loading="lazy" height="{height}"></iframe>'
            f'<p class="explorer-link"><a href="{page}">Open the explorer in full size</a></p>'
        )
        return [nodes.raw("", frame, format="html")]


def forget(app: Sphinx, env: Any, docname: str) -> None:
    """Forgets the frames of a page that is read again."""
    for documents in getattr(env, "explorer_models", {}).values():
        documents.discard(docname)


def write(app: Sphinx, exception: Exception | None) -> None:
    """Writes the pages that frames show; those of an earlier build are kept."""
    for model, documents in getattr(app.env, "explorer_models", {}).items():
        page = Path(app.outdir) / FOLDER / f"{model}.html"
        if exception is None and documents and not page.exists():
            page.parent.mkdir(exist_ok=True)
            explore.page(explore.trace_run(model, num_episodes=EPISODES), page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.add_directive("explorer", Explorer)
    app.connect("env-purge-doc", forget)
    app.connect("build-finished", write)
    return {"version": "1", "parallel_read_safe": False}
