"""The shape of the house: who imports whom, and how large things are."""

import ast
import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dncx

PACKAGE = Path(__file__).parent.parent / "dncx"
SOURCES = sorted(PACKAGE.rglob("*.py"))
# Each module of the core may import those before it, and these libraries. The parts name
# themselves to `kernels.choice`, which picks the form of a cell. The access calls the kernels of a
# step, `native` those of a sequence. No kernel imports its caller.
ORDER = [
    "cache",
    "checks",
    "glossary",
    "initializers",
    "kernels.meshes",
    "kernels.derivatives",
    "kernels.compiler",
    "kernels.library",
    "kernels.choice",
    "normalization",
    "addressing",
    "interface",
    "parts",
    "kernels.gradients",
    "kernels.step",
    "kernels.chunks",
    "kernels.recurrence",
    "access",
    "controllers",
    "native",
    "config",
    "dnc",
    "sequence",
    "stepping",
]
CORE = [name for name in ORDER if not name.startswith("kernels.")]
LIBRARIES = {"jax", "jaxlib", "flax", "jaxtyping", "numpy"}
STANDARD = sys.stdlib_module_names


def imports(path):
    """The modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "dncx.kernels":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("name", ORDER)
def test_core_imports_point_one_way(name):
    for module in imports(PACKAGE / f"{name.replace('.', '/')}.py"):
        top, _, rest = module.partition(".")
        if top == "dncx":
            assert ORDER.index(rest) < ORDER.index(name), f"{name} imports {module}"
        else:
            assert top in LIBRARIES | STANDARD, f"{name} imports {module}"


@pytest.mark.parametrize("name", ["networks.lstm", "networks.ntm"])
def test_baselines_are_made_of_the_core_and_not_known_to_it(name):
    for module in imports(PACKAGE / f"{name.replace('.', '/')}.py"):
        top, _, rest = module.partition(".")
        assert rest in CORE if top == "dncx" else top in LIBRARIES | STANDARD
    assert name not in ORDER  # whose modules import each other only


def test_controllers_stand_beside_the_access():
    assert "dncx.access" not in set(imports(PACKAGE / "controllers.py"))
    assert "dncx.controllers" not in set(imports(PACKAGE / "access.py"))


@pytest.mark.parametrize("path", sorted((PACKAGE / "tasks").rglob("*.py")), ids=lambda p: p.name)
def test_tasks_know_nothing_of_the_network(path):
    own = {module for module in imports(path) if module.startswith("dncx")}
    assert all(module.startswith(("dncx.tasks", "dncx.errors", "dncx.text")) for module in own)


def modules_imported(path):
    """The modules of dncx that a file imports, also inside of functions."""
    known = {module_name(source) for source in SOURCES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from known.intersection(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else node.module for name in inside)


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle_in(graph):
    """The modules of one import circle, or an empty list."""
    left = dict(graph)
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    if not left:
        return []
    path = [min(left)]
    while path.count(path[-1]) == 1:
        path.append(min(left[path[-1]] & left.keys()))
    return path[path.index(path[-1]) :]


def test_no_import_circle():
    """Imports that wait inside of a function count, too. `dncx` itself only passes names on."""
    graph = {module_name(path): set(modules_imported(path)) for path in SOURCES}
    del graph["dncx"]
    assert "dncx.explore.command" in graph["dncx.cli.main"]  # which waits inside of a function
    assert circle_in(graph) == []


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == ["b", "c", "b"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_only_one_module_knows_orbax():
    users = {path.name for path in SOURCES if any(m.startswith("orbax") for m in imports(path))}
    assert users == {"checkpoints.py"}


def test_public_names_are_what_they_say_whatever_was_imported_before():
    """Every module is imported first; then `dncx.unroll` and the rest are still the objects."""
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in SOURCES
        if path.name != "__init__.py"
    ]
    code = (
        f"import importlib, types, dncx\nfor m in {modules}: importlib.import_module(m)\n"
        "names = set(dir(dncx)) - {*dncx._PACKAGES, '__version__'}\n"
        "assert len(names) > 15\n"
        "print([n for n in names if isinstance(getattr(dncx, n), types.ModuleType)])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_types_and_lazy_names_agree():
    """The names for type checkers and those that load on use are the same."""
    source = (PACKAGE / "__init__.py").read_text()
    for_types = set(re.findall(r"import (\w+) as \1", source))
    assert for_types == set(dncx.__dir__()) - {"__version__"}


def test_nothing_pickles():
    for path in SOURCES:
        assert not {"pickle", "dill", "cloudpickle", "joblib"} & set(imports(path)), path


def documented(tree):
    """Public classes and functions of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module"
    for node in documented(tree):
        assert ast.get_docstring(node), node.name


SETTINGS = [p for p in SOURCES if p.stem == "settings" or p.parent.name == "settings"]


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_help_says_of_a_flag_is_one_line(path):
    """So that a table of flags has short lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            texts = [x.value.value for x in node.body[1:] if isinstance(x, ast.Expr)]
            assert not [text for text in texts if "\n" in text]


@pytest.mark.parametrize(
    "module",
    [
        *("dncx.config", "dncx.dnc", "dncx.sequence", "dncx.stepping"),
        *("dncx.networks.ntm", "dncx.networks.stack", "dncx.networks.tape"),
    ],
)
def test_examples_in_docstrings(module):
    imported = __import__(module, fromlist=["_"])
    from flax import nnx

    result = doctest.testmod(imported, extraglobs={"nnx": nnx})
    assert result.attempted > 0
    assert result.failed == 0


# Each room may import itself and the rooms before it. "core" is every module that is in no folder,
# and the kernels that it calls.
ROOMS = [
    "core",
    "tasks",
    "settings",
    "networks",
    "interop",
    "runs",
    "reporting",
    "training",
    "rl",
    "sharing",
    "exporting",
    "explore",
    "debugging",
    "cli",
]


def room(module):
    """The room of a module of dncx."""
    first = module.split(".")[1] if "." in module else "core"
    return first if first in ROOMS else "core"


def test_rooms_import_downwards_only():
    for path in SOURCES:
        module = module_name(path)
        if module in ("dncx", "dncx.__main__"):  # the first loads names on demand, the second runs
            continue
        for imported in modules_imported(path):
            above = ROOMS.index(room(imported)) > ROOMS.index(room(module))
            assert not above, f"{module} imports {imported}"
