"""The C++ compiler of this machine: how to find it, its flags, and its errors."""

import contextlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared")
# The kernels read neither errno nor the floating-point flags, and may fuse a product with a sum.
_FLAGS += ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
# The features that -march=x86-64-v3 requires, by their names in /proc/cpuinfo.
_X86_64_V3 = {"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}

# A query takes 0.1 s, the kernels 5 to 30 s, and several times as long on a busy machine.
_SECONDS_TO_ANSWER = 60
_SECONDS_TO_COMPILE = 300
_MOST_OUTPUT = 1 << 20  # bytes; CXX=yes would fill the disk


class CompilerError(RuntimeError):
    """There is no compiler, or it failed; the message is one line."""


class Compiler(NamedTuple):
    """A C++ compiler, with what it reports about itself and the processor."""

    command: tuple[str, ...]
    # Flags that choose the processor: first the best one that it accepts, then safer ones.
    processor_flags: tuple[tuple[str, ...], ...]
    macros: str  # those it defines: its version, and the instructions it may use

    def compile(self, source: Path, defines: Sequence[str], includes: Path, made: Path) -> None:
        """Compiles a source file into a shared library.

        Intermediate files are written to the folder of the library, so that removing the folder
        after a crash removes them, too.

        Raises:
          CompilerError: if it fails with all flags for the processor, or takes too long.
        """
        rest = [*_FLAGS, *defines, "-isystem", str(includes), str(source), "-o", str(made)]
        *better, last = self.processor_flags
        for flags in better:
            # An assembler older than its compiler refuses instructions that the compiler chose.
            with contextlib.suppress(_RefusedError):
                return self._compile([*self.command, *flags, *rest], made)
        return self._compile([*self.command, *last, *rest], made)

    def _compile(self, command: Sequence[str], made: Path) -> None:
        _run(command, _SECONDS_TO_COMPILE, made.parent)
        if not made.exists():
            raise CompilerError(
                f"{shlex.join(self.command)} reported no error but wrote no library"
            )


class _RefusedError(CompilerError):
    """A command that ended with an error."""


def find_compiler() -> Compiler:
    """The compiler that CXX names, or else c++, g++ or clang++.

    Raises:
      CompilerError: if there is no compiler, or it is not a C++ compiler.
    """
    if os.name != "posix":
        raise CompilerError("the native kernel supports only Linux and macOS")
    command = _command()
    flags = _processor_flags()
    for first in range(len(flags)):
        try:
            macros = _macros([*command, *flags[first]])
        except _RefusedError:
            if first + 1 == len(flags):
                raise
        else:
            return Compiler(command, flags[first:], macros)
    raise AssertionError("the last flags are tried, too")


def _command() -> tuple[str, ...]:
    given = os.environ.get("CXX", "")
    try:
        asked = shlex.split(given)
    except ValueError as error:
        raise CompilerError(f"CXX={given!r} is not a command: {error}") from None
    for command in (asked,) if asked else (["c++"], ["g++"], ["clang++"]):
        if shutil.which(command[0]):
            return tuple(command)
    if asked:
        raise CompilerError(f"CXX={asked[0]!r}: there is no such compiler")
    raise CompilerError("no C++ compiler was found (c++, g++ or clang++)")


def _processor_flags() -> tuple[tuple[str, ...], ...]:
    """The flags for the processor, best first. The last ones work everywhere."""
    choices = [("-march=native",)]
    if platform.machine().lower() in ("x86_64", "amd64"):
        if _instruction_sets() >= _X86_64_V3:
            choices.append(("-march=x86-64-v3",))
    else:  # clang for ARM takes this instead
        choices.append(("-mcpu=native",))
    return (*choices, ())


def _instruction_sets() -> set[str]:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = (line.partition(":") for line in info.splitlines())
    return next((set(value.split()) for name, _, value in lines if name.strip() == "flags"), set())


def _macros(command: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="dncx-") as folder:
        question = [*command, "-dM", "-E", "-x", "c++", os.devnull]
        lines = _run(question, _SECONDS_TO_ANSWER, Path(folder)).splitlines()
    macros = sorted(line for line in lines if line.startswith("#define "))
    if not any(line.startswith("#define __cplusplus ") for line in macros):
        raise CompilerError(f"{shlex.join(command)} does not behave like a C++ compiler")
    return "\n".join(macros)


def _run(command: Sequence[str], seconds: int, folder: Path) -> str:
    """The output of a command, including its errors.

    Args:
      command: a program and its arguments.
      seconds: time limit.
      folder: the folder for its temporary files.
    """
    name = shlex.join(command[:1])
    environment = os.environ | {"TMPDIR": str(folder), "LC_ALL": "C"}
    with tempfile.TemporaryFile(dir=folder) as output:
        deadline = time.monotonic() + seconds
        with _started(command, output.fileno(), environment) as process:
            while (code := process.poll()) is None:
                if time.monotonic() > deadline:
                    raise CompilerError(f"{name} did not finish within {seconds} s")
                if os.fstat(output.fileno()).st_size > _MOST_OUTPUT:
                    raise CompilerError(f"{name} prints too much output")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
        output.seek(0)
        text = output.read(_MOST_OUTPUT).decode(errors="replace")
    if code:
        raise _RefusedError(f"{name} failed with exit code {code}: {_in_one_line(text)}")
    return text


@contextlib.contextmanager
def _started(
    command: Sequence[str], output: int, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is killed at the end of the context, with its child processes."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a group of its own, to be killed with the compiler proper
        )
    except OSError as error:
        raise CompilerError(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _in_one_line(text: str) -> str:
    """The first line that names an error, or otherwise the last line."""
    lines = ["".join(filter(str.isprintable, line)).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if "error" in line.lower()]
    return ([*errors, *lines[-1:], "it printed nothing"])[0][:300]
