"""The documentation site: `make docs` builds it in docs/_build/html."""

import importlib.util
import os
import sys
from pathlib import Path

import dncx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))
# The tutorials call the `dncx` of the environment that builds the site.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
# One imports examples/in_pytorch.py, which a reader copies.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent / "examples"), *filter(None, [os.environ.get("PYTHONPATH")])]
)

project = "dncx"
author = "The dncx authors"
version = release = dncx.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "docstrings",
    "explorer_pages",
    "notebooks",
    "repository_links",
]
exclude_patterns = ["_build"]

# Pages
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# `sh` blocks show commands of several programs, and "python no-run" is a mark for the tests.
suppress_warnings = ["misc.highlighting_failure"]

# Tutorials are executed once and again only if they change. An exception fails the build.
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed")
nb_execution_in_temp = True  # they write runs
nb_execution_raise_on_error = True
nb_execution_timeout = 600
if importlib.util.find_spec("torch") is None:  # large, and needed by this page only
    nb_execution_excludepatterns = ["in-pytorch.md"]
    print("without PyTorch, tutorials/in-pytorch.md is not executed (.ci/run installs it)")
nb_output_stderr = "remove"  # messages of JAX about the machine that builds the site
nb_merge_streams = True

# Reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# `name` in a docstring links to the reference if the name is in it. It may also be an argument, or
# code, so only the roles that the pages themselves use, such as {class}, must lead somewhere.
default_role = "py:obj"
# Types in signatures may be of other libraries, type variables, or internal.
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:class|py:data|py:exc", r"(?!dncx\.).*"),
    ("py:class", r"dncx\.(\w+\.)*(State|Masks|Drawing)"),
    ("py:class", r"dncx\.networks\..*|dncx\.tasks\.shrdlu\.task\.MiniShrdlu"),
    ("py:class", r"dncx\.rl\.\w+\.(Window|Losses|Seen)|dncx\.training\.method\.Method"),
]

# Theme
html_theme = "furo"
html_title = "dncx"
html_static_path = ["static"]
html_css_files = ["site.css"]
pygments_dark_style = "monokai"
html_copy_source = False
html_show_sourcelink = False
