"""The programs that JAX compiles, kept on the disk so that the next start is quick."""

import functools
import logging
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dncx.cache import cache_folder

_LOG = logging.getLogger("dncx")
# JAX's warnings of a program that it cannot read, or cannot keep.
_UNREADABLE = r"Error reading persistent compilation cache entry for '([^']+)'"
_NOT_KEPT = r"Error writing persistent compilation cache entry"


def keep_programs(on: bool) -> None:
    """Before JAX loads: keeps compiled programs in the user's cache, unless a folder is set."""
    if not on:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        with suppress(OSError):  # not even a temporary folder can be written: JAX keeps nothing
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache_folder())
    # The small programs that draw the initial weights are worth keeping, too.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if "jax" in sys.modules:  # a custom task has loaded it, and it has read the environment
        import jax

        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        if not on:
            jax.config.update("jax_enable_compilation_cache", False)


@contextmanager
def damaged_programs_replaced() -> Iterator[None]:
    """Removes each program that JAX cannot read, just before JAX compiles and keeps it anew.

    A crash or a full disk leaves a part of a program. JAX alone would never overwrite it, compile
    it again at each start, and warn each time.
    """
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, *where: Any, **more: Any) -> None:
            if unreadable := re.match(_UNREADABLE, str(message)):
                _remove(unreadable[1])
            elif re.match(_NOT_KEPT, str(message)):
                _note("programs cannot be kept for the next start: %s", str(message))
            else:
                usual(message, *where, **more)

        warnings.showwarning = show
        for message in (_UNREADABLE, _NOT_KEPT):
            warnings.filterwarnings("always", message)
        yield


def _remove(name: str) -> None:
    """Removes the programs of a name; the warning does not tell which of them is damaged."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    _note("damaged programs in %s are compiled again", folder)
    for path in Path(folder).glob(f"{name}-*-cache"):
        with suppress(OSError):
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)  # a folder in its place


@functools.cache
def _note(message: str, value: str) -> None:
    _LOG.warning(message, value)
