"""Custom networks: functions that take the arguments of `dncx.DNC`, named as FILE.py:FUNCTION.

A file is code. It runs only if a person names it, on the command line or in Python; a configuration
that names a file does not run it.
"""

import dataclasses
import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from dncx.errors import UsageError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSource:
    """The function that makes a custom network.

    Attributes:
      file: the file that defines it, as an absolute path; "" if there is none.
      function: its name.
      sha256: hash of the file, or of the function's source if there is no file; "" if neither is
        known.
    """

    file: str
    function: str
    sha256: str

    @property
    def name(self) -> str:
        """The name on the command line."""
        return f"{self.file}:{self.function}" if self.file else self.function


_FUNCTIONS: dict[NetworkSource, Callable[..., Any]] = {}  # those that a person has named
_GIVEN: dict[str, NetworkSource] = {}  # those that a person has passed as objects, by name


def custom_network(network: str | Callable[..., Any]) -> NetworkSource:
    """The source of a custom network, whose function can then be called by `function_of`.

    Args:
      network: FILE.py:FUNCTION, or the function itself. It is called as
        `function(input_size, output_size, config, rngs=rngs)`, like `dncx.DNC`, and returns a
        flax recurrent cell.

    Raises:
      UsageError: if there is no such file or function, or the file cannot be run.
    """
    if callable(network):
        source, function = _source_of(network), network
        _GIVEN[source.name] = source
    elif network in _GIVEN:
        return _GIVEN[network]
    else:
        source, function = _loaded(network)
    _FUNCTIONS[source] = function
    return source


def function_of(source: NetworkSource) -> Callable[..., Any]:
    """The function that makes a custom network.

    Raises:
      UsageError: if nobody has named it.
    """
    if source not in _FUNCTIONS:
        raise UsageError(
            f"the run has the custom network {source.name}; dncx runs its code only if you name "
            f"it: --network={source.name} (in Python: network=...)"
        )
    return _FUNCTIONS[source]


def _source_of(function: Callable[..., Any]) -> NetworkSource:
    """The source of a function in memory, such as one in a notebook."""
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        file = Path(inspect.getsourcefile(function) or "")
        text = inspect.getsource(function)
    except (OSError, TypeError):  # typed at a prompt, or not written in Python
        return NetworkSource(file="", function=name, sha256="")
    if not file.is_file():
        return NetworkSource(file="", function=name, sha256=_hash(text.encode()))
    digest = _hash(file.read_bytes())
    return NetworkSource(file=str(file.resolve()), function=name, sha256=digest)


def _loaded(name: str) -> tuple[NetworkSource, Callable[..., Any]]:
    """Runs a file, and returns the function in it."""
    path, colon, function_name = name.rpartition(":")
    if not (colon and path and function_name.isidentifier()):
        raise UsageError(f"network={name}: must be FILE.py:FUNCTION, as in mine.py:make_network")
    file = Path(path).expanduser()
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"network={name}: {file}: {error.strerror}") from error
    source = NetworkSource(file=str(file.resolve()), function=function_name, sha256=_hash(content))
    if source in _FUNCTIONS:
        return source, _FUNCTIONS[source]
    module = _run(file.resolve(), content, name)
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UsageError(
            f"network={name}: {file} has no function {function_name}"
            f"{did_you_mean(function_name, names)}"
        )
    return source, function


def _run(file: Path, content: bytes, name: str) -> ModuleType:
    """The module in a file; it may import modules from the same folder.

    The content that was hashed is the one that runs: an import could take an older compiled file.
    """
    module = ModuleType(f"dncx_network_{file.stem}")
    module.__file__ = str(file)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[module.__name__] = module  # dataclasses look up the module of their class
    try:
        exec(compile(content, str(file), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the file raises
        del sys.modules[module.__name__]
        raise UsageError(f"network={name}: {_reason(file, error)}") from error
    return module


def called(source: NetworkSource, *sizes: Any, rngs: Any) -> Any:
    """A network of a custom function.

    Raises:
      UsageError: if the function fails, or returns something other than a recurrent cell.
    """
    function = function_of(source)
    try:
        network = function(*sizes, rngs=rngs)
    except Exception as error:
        raise UsageError(f"network={source.name}: {_reason(Path(source.file), error)}") from error
    missing = [name for name in ("initialize_carry", "__call__") if not hasattr(network, name)]
    if missing:
        raise UsageError(
            f"network={source.name}: must return a flax recurrent cell; it returned a "
            f"{type(network).__name__}, which has no {missing[0]}"
        )
    return network


def _reason(file: Path, error: BaseException) -> str:
    """An error in one line, with the last line of the file in its traceback."""
    text = f"{type(error).__name__}: {error}"
    frame = error.__traceback__
    line = None
    while frame is not None:
        if Path(frame.tb_frame.f_code.co_filename) == file:
            line = frame.tb_lineno
        frame = frame.tb_next
    return text if line is None else f"line {line}: {text}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
