"""The C++ of `native/`, compiled for this machine at its first use and cached.

It is compiled here instead of in the package, so that it uses all instructions of the processor,
fits the installed jaxlib, and the package itself runs anywhere.
"""

import contextlib
import ctypes
import errno
import functools
import hashlib
import logging
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jaxlib.version

from dncx.cache import cache_folder, is_safe, private_folder
from dncx.kernels.compiler import Compiler, CompilerError, find_compiler

SOURCES = Path(__file__).parent / "native"
HANDLERS = ("step", "step_backward", "sequence", "sequence_backward")
NUMBERS = {"float32": "float", "float64": "double"}
_SECONDS_TO_WAIT = 600  # for another process that compiles; longer than a compiler may take
_SPACE = 4 << 20  # bytes that compiling needs
_BUILDING = "building-"
_SECONDS_UNTIL_LEFT = 3600  # how old a folder of another machine must be to count as left behind
_LOG = logging.getLogger("dncx")
_lock = threading.Lock()
_loaded: dict[tuple[str, int], ctypes.CDLL] = {}


class Layout(NamedTuple):
    """Sizes that follow from the memory layout in the C++, for one example and step."""

    record: int  # of weightings, gates and interface
    layer_record: int  # of a layer's gates and cell
    layer_inputs: int  # of what enters the deepest layer


def target(handler: str, dtype: str, read_heads: int) -> str:
    """The name under which a handler is registered with XLA by `load`.

    JAX quotes this name when it refuses to export the call, so it contains the remedy.
    """
    return (
        f"dncx_{handler}_{dtype}_{read_heads} (to export, make the cell with implementation='xla')"
    )


def load(dtype: str, read_heads: int) -> str | None:
    """Registers the kernels for a dtype and a number of read heads with XLA.

    Returns:
      None, or the reason why they cannot be used, which is also logged once.
    """
    with _lock:
        return _load(dtype, read_heads)


def layout(
    dtype: str,
    read_heads: int,
    *,
    slots: int,
    word: int,
    inputs: int,
    layers: int,
    hidden: int,
    links: bool,
    masks: bool,
    wipe_freed: bool,
    sharpen_links: bool,
    interface_norm: bool,
    controller_norm: bool,
) -> Layout:
    """Queries the layout from the C++, after `load` has been called.

    The layout is therefore defined in one place, and the shapes in Python follow from it. The C++
    checks these shapes nevertheless.
    """
    found = (ctypes.c_int64 * len(Layout._fields))()
    sizes = (slots, word, inputs, layers, hidden)
    sizes += (links, masks, wipe_freed, sharpen_links, interface_norm, controller_norm)
    _loaded[dtype, read_heads].dncx_layout(*map(ctypes.c_int64, sizes), found)
    return Layout(*found)


@functools.cache
def _load(dtype: str, read_heads: int) -> str | None:
    try:
        library = _loaded[dtype, read_heads] = _opened(dtype, read_heads)
        for handler in HANDLERS:
            jax.ffi.register_ffi_target(
                target(handler, dtype, read_heads),
                jax.ffi.pycapsule(getattr(library, f"dncx_{handler}")),
                platform="cpu",
            )
    except AttributeError:
        reason = "the compiled library does not contain the kernels"
    except (CompilerError, OSError) as error:
        reason = str(error)
    else:
        return None
    _LOG.warning("the native kernel cannot be used; XLA is used instead: %s", reason)
    return reason


def _opened(dtype: str, read_heads: int) -> ctypes.CDLL:
    """The library, from the cache folder or from a folder of this process only.

    The latter is for a disk that is full or read-only, or does not allow executable files.
    """
    try:
        return ctypes.CDLL(str(compiled(dtype, read_heads, cache_folder() / "kernels")))
    except OSError as error:
        if "undefined symbol" in str(error):  # no other folder would help
            raise CompilerError(
                "the compiler does not link C++'s library; CXX must name a C++ compiler, such as "
                "g++ instead of gcc"
            ) from error
        library = ctypes.CDLL(str(compiled(dtype, read_heads, private_folder())))
        _LOG.warning("each start builds the CPU kernel again, as it cannot be kept: %s", error)
        return library


def compiled(dtype: str, read_heads: int, folder: Path) -> Path:
    """The path of the intact library, which is compiled if it is missing.

    Its name contains its checksum, and the name of its folder a hash of everything that it depends
    on, since machines and versions may share a cache.

    Args:
      dtype: "float32" or "float64".
      read_heads: R.
      folder: the folder for libraries.

    Raises:
      CompilerError: if there is no compiler, or it fails.
      OSError: if the folder cannot be used.
    """
    compiler = find_compiler()
    place = folder / _fingerprint(compiler)[:16]
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_safe(place):
        raise PermissionError(errno.EPERM, "another user can write there", str(place))
    stem = f"{dtype}-{read_heads}"
    if found := _intact(place, stem):
        return found
    with _alone(place, stem):
        # Another process may have compiled it while this one waited.
        return _intact(place, stem) or _compile(compiler, dtype, read_heads, place)


def _compile(compiler: Compiler, dtype: str, read_heads: int, place: Path) -> Path:
    stem = f"{dtype}-{read_heads}"
    _LOG.info("building the CPU kernel for this machine, once: about 15 s (%s)", place)
    defines = [f"-DDNCX_NUMBER={NUMBERS[dtype]}", f"-DDNCX_READS={read_heads}"]
    prefix = f"{_BUILDING}{stem}-{platform.node()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=place) as building:
        made = Path(building) / f"{stem}.so"
        try:
            compiler.compile(SOURCES / "native.cc", defines, Path(jax.ffi.include_dir()), made)
        except CompilerError:
            _check_space(Path(building))
            raise
        path = place / f"{stem}-{_checksum(made)}.so"
        made.chmod(0o600)
        _flush(made)
        made.replace(path)
        _flush(place)
    return path


def _intact(place: Path, stem: str) -> Path | None:
    """A library with the checksum in its name, which only this user can change; None if none."""
    for path in sorted(place.glob(f"{stem}-*.so")):
        if _has_its_checksum(path) and is_safe(path):
            return path
    return None


def _has_its_checksum(path: Path) -> bool:
    try:
        return path.stem.endswith(f"-{_checksum(path)}")
    except OSError:  # a folder, or a file that cannot be read
        return False


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


@contextlib.contextmanager
def _alone(place: Path, stem: str) -> Iterator[None]:
    """Keeps other processes from compiling the same library; removes files of killed processes.

    The system releases the lock when the process ends for any reason. Without locks (some network
    disks) several processes may compile at once, each in its own folder.
    """
    with (place / f"{stem}.lock").open("w") as file:
        if _locked(file.fileno()):
            _tidy(place, stem)
        yield


def _tidy(place: Path, stem: str) -> None:
    """Removes damaged copies of a library, and the files of compilers killed while building it."""
    for path in place.glob(f"{stem}-*.so"):
        if _has_its_checksum(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for folder in place.glob(f"{_BUILDING}{stem}-*"):
        # No other process on this machine is compiling it. Another machine may be: some network
        # disks keep separate locks on each machine.
        here = folder.name.startswith(f"{_BUILDING}{stem}-{platform.node()}-")
        if here or time.time() - folder.stat().st_mtime > _SECONDS_UNTIL_LEFT:
            shutil.rmtree(folder, ignore_errors=True)


def _locked(file: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    deadline = time.monotonic() + _SECONDS_TO_WAIT
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    errno.ETIMEDOUT, "another process is still compiling there"
                ) from None
            time.sleep(0.1)
        except OSError:
            return False
        else:
            return True


def _flush(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _check_space(folder: Path) -> None:
    """Raises the system's error if the disk is full; compilers report this less clearly."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_SPACE))
        file.flush()
        os.fsync(file.fileno())


def _fingerprint(compiler: Compiler) -> str:
    """A hash of everything that the compiled code depends on."""
    content = hashlib.sha256(repr((compiler, jaxlib.version.__version__)).encode())
    for path in sorted(SOURCES.iterdir()):
        content.update(path.read_bytes())
    return content.hexdigest()
