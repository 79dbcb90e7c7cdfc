"""The reference in docs/api has every public name, and the pages hang together.

`make docs` builds the site, runs the tutorials and checks all links; .ci/run does so.
"""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import dncx

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = sorted((DOCS / "api").glob("*.md"))
DOCUMENTED = [
    name
    for page in REFERENCE
    for name in re.findall(
        r"^\.\. auto(?:class|function|exception):: ([\w.]+)", page.read_text(), re.M
    )
]
MODULES = re.findall(
    r"^\.\. automodule:: ([\w.]+)\n +:members: (.*)",
    "\n".join(page.read_text() for page in REFERENCE),
    re.M,
)
DOCUMENTED += [f"{module}.{name}" for module, names in MODULES for name in names.split(", ")]
# Imported on the pages, and explained there.
ON_PAGES = {
    "dncx.explore.plots", "dncx.explore.decoding", "dncx.explore.origins", "dncx.explore",
    "dncx.settings.presets.DEFAULTS", "dncx.tasks.registry.TASKS",
}  # fmt: skip


def documented(name):
    """The object of a dotted name."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_every_public_name_is_in_the_reference():
    public = {
        f"dncx.{name}"
        for name in dir(dncx)
        if not name.startswith("_") and not inspect.ismodule(getattr(dncx, name))
    }
    assert len(public) > 20
    assert public <= set(DOCUMENTED)


@pytest.mark.parametrize("module", ["dncx.interop.deepmind", "dncx.explore", "dncx.explore.plots"])
def test_every_function_of_a_module_is_in_the_reference(module):
    of_module = importlib.import_module(module)
    public = {
        f"{module}.{name}"
        for name, value in vars(of_module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__.startswith(module)
    }
    assert public
    assert public <= set(DOCUMENTED)


def test_what_the_pages_import_is_in_the_reference():
    for page in [DOCS.parent / "README.md", *DOCS.rglob("*.md")]:
        for module, names in re.findall(r"^from (dncx[\w.]*) import (.+)$", page.read_text(), re.M):
            for name in names.split(", "):
                assert f"{module}.{name}" in {*DOCUMENTED, *ON_PAGES}, f"{page.name}: {name}"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_names_of_the_reference_exist(name):
    assert documented(name).__doc__


def test_nothing_is_documented_twice():
    assert len(DOCUMENTED) == len(set(DOCUMENTED))


def test_every_page_is_reached():
    """From the front page, by tables of contents."""
    pages = {str(p.relative_to(DOCS).with_suffix("")) for p in DOCS.rglob("*.md")}
    pages = {page for page in pages if not page.startswith("_build")}
    reached, new = set(), {"index"}
    while new:
        page = new.pop()
        reached.add(page)
        for tree in re.findall(
            r"```\{toctree\}\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.S
        ):
            entries = [line for line in tree.split() if line[0].isalnum() or line[0] == "."]
            base = DOCS / Path(page).parent
            found = {
                str((base / entry).relative_to(DOCS))
                for entry in entries
                if (base / f"{entry}.md").exists()
            }
            new |= found - reached
    assert pages == reached


@pytest.fixture(scope="module")
def markup():
    """The conversion of docstrings, which needs no Sphinx."""
    path = DOCS / "extensions" / "docstring_markup.py"
    spec = importlib.util.spec_from_file_location("docstring_markup", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_that_are_described_together_may_take_several_lines(markup):
    docstring = """Reads.

Args:
  memory, read_weights,
    write_weights, usage: of one example,
    without a batch.
  key: a word, of
    numbers, in any
    order,
  *others: more.
"""
    lines = list(markup.as_restructured_text(docstring.splitlines()))
    assert lines[3:] == [
        "  memory, read_weights, write_weights, usage: of one example,",
        "    without a batch.",
        "  key: a word, of",
        "    numbers, in any",
        "    order,",
        "  \\*others: more.",
    ]


def test_equations_are_no_markup(markup):
    """Napoleon reads the entries; blocks keep their lines, and only backticks are markup."""
    docstring = """|u| of a_ and `x_y`:

    u = a * b

Returns:
  N. of rows.
"""
    assert list(markup.as_restructured_text(docstring.splitlines())) == [
        r"\|u\| of a\_ and `x_y`:", "", "", "::", "", "    u = a * b", "",
        "Returns:", r"  N\. of rows.",
    ]  # fmt: skip
