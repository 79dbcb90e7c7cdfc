"""The compiled kernel and its cache: compilers that fail, damaged files, no home, other users."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dncx import cache
from dncx.kernels import compiler, library

# A stand-in for a C++ compiler: it tells its macros, and "compiles" what it was asked to.
FAKE = """#!{python}
import sys, time
arguments = sys.argv[1:]
refused = [a for a in arguments if a in {refuses!r}]
if refused:
    sys.exit("fake: error: unrecognized argument " + refused[0])
if "-E" in arguments:
    print("#define __cplusplus 201703L")
elif {hangs!r}:
    time.sleep(60)
else:
    with open(arguments[arguments.index("-o") + 1], "w") as made:
        made.write("compiled with " + " ".join(arguments))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """fake(refuses=..., hangs=...) makes a compiler and has CXX name it."""

    def make(refuses=(), hangs=False):
        path = tmp_path / "fake"
        path.write_text(FAKE.format(python=sys.executable, refuses=refuses, hangs=hangs))
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return path

    return make


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    cache.private_folder.cache_clear()
    yield folder
    cache.private_folder.cache_clear()


def compiled(folder, heads=1):
    return library.compiled("float32", heads, folder)


# ---- The compiler --------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [("-march=native",), ("-march=native", "-march=x86-64-v3")])
def test_a_compiler_without_native_code_gets_other_flags(fake, refused, tmp_path):
    fake(refuses=(*refused, "-mcpu=native"))
    text = compiled(tmp_path / "cache").read_text()
    assert "-march=native" not in text
    assert ("-march=" in text) <= (len(refused) == 1)


def test_an_assembler_without_native_code_gets_other_flags(fake, tmp_path, monkeypatch):
    """It is asked for macros in vain: the flag is refused only when it compiles."""
    fake()
    asked = []
    run = compiler._run

    def old_assembler(command, seconds, folder):
        asked.append(command)
        if "-march=native" in command and "-E" not in command:
            command = ["false"]
        return run(command, seconds, folder)

    monkeypatch.setattr(compiler, "_run", old_assembler)
    path = compiled(tmp_path / "cache")
    assert "-march=native" not in path.read_text()
    tries = len(asked)
    assert compiled(tmp_path / "cache") == path
    assert len(asked) == tries + 1, "the next start asks for macros and finds what was compiled"


SCRIPTS = {
    "nothing": "exit 0",
    "nonsense": "echo nonsense",
    "binary nonsense": "head -c 4096 /dev/urandom",
    "failure": "echo 'first line'; echo 'x: fatal error: no such header' >&2; exit 1",
    "silent failure": "exit 3",
    "endless": "yes",
    "killed": "kill -9 $$",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_broken_compiler_is_named_in_one_line(name, tmp_path, monkeypatch):
    path = tmp_path / "broken"
    path.write_text(f"#!/bin/sh\n{SCRIPTS[name]}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    with pytest.raises(compiler.CompilerError) as caught:
        compiled(tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert str(path) in message
    assert ("no such header" in message) == (name == "failure")
    assert len(message) < 500


@pytest.mark.parametrize(
    "value", ['g++ "', "no-such-compiler", "/", "/etc/passwd", "true", "'' -O3", "a\nb"]
)
def test_a_wrong_cxx_is_named(value, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", value)
    with pytest.raises(compiler.CompilerError) as caught:
        compiled(tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_cxx_is_none(value, monkeypatch):
    monkeypatch.setenv("CXX", value)
    assert compiler.find_compiler().command in {("c++",), ("g++",), ("clang++",)}


def test_no_compiler_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(compiler.CompilerError, match="no C\\+\\+ compiler"):
        compiled(tmp_path / "cache")


@pytest.mark.parametrize("while_asked", [True, False])
def test_a_compiler_that_hangs_is_killed_with_its_children(while_asked, tmp_path, monkeypatch):
    child = tmp_path / "child"
    path = tmp_path / "slow"
    answer = "" if while_asked else 'case "$*" in *-E*) echo "#define __cplusplus 1"; exit;; esac\n'
    path.write_text(f"#!/bin/sh\n{answer}sleep 900 & echo $! > {child}\nwait\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    monkeypatch.setattr(compiler, "_SECONDS_TO_ANSWER", 1)
    monkeypatch.setattr(compiler, "_SECONDS_TO_COMPILE", 1)
    begun = time.monotonic()
    with pytest.raises(compiler.CompilerError, match="within 1 s"):
        compiled(tmp_path / "cache")
    assert time.monotonic() - begun < 300  # not until the compiler has ended
    assert _ends(int(child.read_text()))


def _ends(process):
    for _ in range(1200):
        state = Path(f"/proc/{process}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_compiler_that_makes_no_library(tmp_path, monkeypatch):
    path = tmp_path / "lazy"
    path.write_text('#!/bin/sh\ncase "$*" in *-E*) echo "#define __cplusplus 1";; esac\n')
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    with pytest.raises(compiler.CompilerError, match=r"no error but .* no library"):
        compiled(tmp_path / "cache")


def test_what_is_no_library_is_not_used(fake, temporary, monkeypatch, caplog):
    """One line in the log, the reason for those who ask, and XLA computes."""
    fake()
    monkeypatch.setenv("XDG_CACHE_HOME", str(temporary / "cache"))
    reason = library._load.__wrapped__("float32", 3)
    assert reason
    assert [r.levelname for r in caplog.records if r.levelname == "WARNING"] == ["WARNING"]


def test_a_compiler_of_c_is_named_and_asked_once(fake, temporary, monkeypatch):
    """As CXX=gcc, which leaves out C++'s library: another folder would not help."""
    fake()
    monkeypatch.setenv("XDG_CACHE_HOME", str(temporary / "cache"))

    def load(path):
        raise OSError(f"{path}: undefined symbol: _ZTVN10__cxxabiv117__class_type_infoE")

    monkeypatch.setattr(library.ctypes, "CDLL", load)
    assert "CXX" in library._load.__wrapped__("float32", 3)
    assert [path.name for path in temporary.iterdir()] == ["cache"]


# ---- The files -----------------------------------------------------------------------------------


def test_compiled_kernels_are_kept(fake, tmp_path, monkeypatch):
    fake()
    path = compiled(tmp_path)
    written = path.stat().st_mtime_ns
    assert compiled(tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert compiled(tmp_path, heads=2).parent == path.parent
    assert sorted(p.suffix for p in path.parent.iterdir()) == [".lock", ".lock", ".so", ".so"]
    monkeypatch.setattr(library, "HANDLERS", library.HANDLERS)
    monkeypatch.setattr(library.jaxlib.version, "__version__", "another")
    assert compiled(tmp_path).parent != path.parent


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "one bit": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "longer": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "another file": lambda content: b"something else",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_library_is_compiled_again(name, fake, tmp_path):
    fake()
    path = compiled(tmp_path)
    content = path.read_bytes()
    path.write_bytes(DAMAGES[name](content))
    again = compiled(tmp_path)
    assert again.name.split("-")[:2] == path.name.split("-")[:2]
    assert library._checksum(again) in again.name
    assert [p for p in path.parent.glob("*.so") if library._checksum(p) not in p.name] == []


def test_a_folder_in_the_place_of_a_library_gives_way(fake, tmp_path):
    fake()
    path = compiled(tmp_path)
    path.unlink()
    path.mkdir()
    (path / "something").touch()
    again = compiled(tmp_path)
    assert again.is_file()
    assert compiled(tmp_path) == again


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_library_that_others_may_change_is_compiled_again(mode, fake, tmp_path):
    fake()
    path = compiled(tmp_path)
    path.chmod(mode)
    assert cache.is_safe(compiled(tmp_path))


def test_a_killed_compiler_leaves_nothing(fake, tmp_path):
    """Neither a library nor, after the next start, its temporary files."""
    fake(hangs=True)
    code = (
        "from dncx.kernels import library; from pathlib import Path;"
        f"library.compiled('float32', 1, Path({str(tmp_path / 'cache')!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        while not (left := list(tmp_path.glob("cache/*/building-*"))):
            time.sleep(0.05)
        process.kill()
    assert list(tmp_path.glob("cache/*/*.so")) == []
    (left[0] / "cc1.s").write_text("half")
    place = left[0].parent
    other = place / "building-float32-1-another-machine-1"
    other.mkdir()
    library._tidy(place, "float32-1")
    assert not left[0].exists()
    assert other.exists()
    os.utime(other, (0, 0))
    library._tidy(place, "float32-1")
    assert not other.exists()


def test_processes_that_compile_at_once(fake, tmp_path):
    """One compiles, the others wait for it; all end with the same file."""
    fake()
    code = (
        "from dncx.kernels import library; from pathlib import Path;"
        f"print(library.compiled('float32', 1, Path({str(tmp_path / 'cache')!r})))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)
    ]
    paths = {process.communicate()[0] for process in started}
    assert len(paths) == 1
    assert len(list(tmp_path.glob("cache/*/*.so"))) == 1


def test_one_waits_for_another_but_not_for_ever(fake, tmp_path, monkeypatch):
    """And not at all for one that compiles for another number of heads."""
    fake()
    place = compiled(tmp_path).parent
    monkeypatch.setattr(library, "_SECONDS_TO_WAIT", 0)
    with library._alone(place, "float32-2"):
        with pytest.raises(TimeoutError):
            compiled(tmp_path, heads=2)
        assert compiled(tmp_path, heads=3).name.startswith("float32-3-")


def test_a_full_disk_is_told_from_a_failing_compiler(fake, tmp_path, monkeypatch):
    """So that the library is made elsewhere."""
    fake(refuses=("-O3",))

    def full(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(compiler.CompilerError):
        compiled(tmp_path)
    monkeypatch.setattr(library, "_check_space", full)
    with pytest.raises(OSError, match="No space left"):
        compiled(tmp_path)


# ---- The cache folder ----------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return folder


def test_the_usual_folder(home, monkeypatch):
    assert cache.cache_folder() == home / ".cache" / "dncx"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "elsewhere"))
    assert cache.cache_folder() == home / "elsewhere" / "dncx"


@pytest.mark.parametrize("value", ["cache", "./cache", "../cache", "~/cache", ""])
def test_a_relative_folder_is_ignored(value, home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert cache.cache_folder() == home / ".cache" / "dncx"
    assert {path.name for path in home.iterdir()} == {".cache"}


def no_home(home, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)


def relative_home(home, monkeypatch):
    monkeypatch.setenv("HOME", "somewhere")


def file_for_a_home(home, monkeypatch):
    (home / ".cache").write_text("a file")


def world_writable(home, monkeypatch):
    (home / ".cache" / "dncx").mkdir(parents=True)
    (home / ".cache" / "dncx").chmod(0o777)


def read_only(home, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: home not in Path(path).parents)


def another_users(home, monkeypatch):
    (home / ".cache" / "dncx").mkdir(parents=True)
    is_safe = cache.is_safe
    monkeypatch.setattr(cache, "is_safe", lambda path: home not in path.parents and is_safe(path))


BAD_HOMES = [no_home, relative_home, file_for_a_home, world_writable, read_only, another_users]


@pytest.mark.parametrize("bad", BAD_HOMES, ids=lambda bad: bad.__name__)
def test_without_a_home_a_temporary_folder_does(bad, home, temporary, monkeypatch):
    """The same one at the next start; nobody else can write there."""
    bad(home, monkeypatch)
    folder = cache.cache_folder()
    assert folder == temporary / f"dncx-{os.getuid()}"
    assert cache.is_safe(folder)
    assert cache.cache_folder() == folder


@pytest.mark.parametrize("squatter", ["file", "link", "writable"])
def test_a_temporary_folder_that_somebody_took_is_not_used(squatter, home, temporary, monkeypatch):
    no_home(home, monkeypatch)
    taken = temporary / f"dncx-{os.getuid()}"
    if squatter == "file":
        taken.write_text("")
    elif squatter == "link":
        (temporary / "of another").mkdir()
        (temporary / "of another").chmod(0o777)
        taken.symlink_to(temporary / "of another")
    else:
        taken.mkdir()
        taken.chmod(0o777)
    folder = cache.cache_folder()
    assert folder.parent == temporary
    assert folder != taken
    assert cache.is_safe(folder)


def test_no_place_at_all(home, monkeypatch):
    """The error is the system's, for those who ask; the command line goes without a cache."""
    no_home(home, monkeypatch)

    def nowhere():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with pytest.raises(FileNotFoundError):
        cache.cache_folder()
    assert library._load.__wrapped__("float32", 3)


# ---- Everything together -------------------------------------------------------------------------

PROGRAM = """
import jax.numpy as jnp
from flax import nnx
import dncx
config = dncx.DNCConfig(num_read_heads=1)
cell = dncx.DNC(2, 2, config, implementation="native", rngs=nnx.Rngs(0))
print(dncx.unroll(cell, jnp.ones((3, 2)))[0].shape)
"""


@pytest.mark.second_step
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root")
def test_a_user_without_home_or_name_has_the_native_kernel():
    """And one with a damaged file, too, which ended the process with a bus error."""
    temporary = Path(tempfile.mkdtemp())  # pytest's folders are closed to other users
    temporary.chmod(0o1777)
    # May read everything, since Python and this checkout may lie in root's home.
    user = "setpriv --reuid=12345 --regid=12345 --clear-groups --inh-caps=+dac_read_search"
    user += " --ambient-caps=+dac_read_search env -i"
    # Its library is compiled twice and only has to load, so without optimisations.
    compiler = temporary / "quick-c++"
    compiler.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')
    compiler.chmod(0o755)
    variables = f"PATH={os.environ['PATH']} TMPDIR={temporary} JAX_PLATFORMS=cpu CXX={compiler} "
    variables += f"XLA_FLAGS={shlex.quote(os.environ['XLA_FLAGS'])}"
    command = [*shlex.split(user), *shlex.split(variables), sys.executable, "-c", PROGRAM]
    for _ in range(2):
        result = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stdout == "(3, 2)\n"
        (kept,) = temporary.glob("dncx-12345/kernels/*/*.so")
        with kept.open("r+b") as file:
            file.truncate(5000)
    shutil.rmtree(temporary)


def test_signals_reach_python_while_it_compiles(tmp_path):
    """Ctrl-C ends the process and the compiler, which is in a group of its own."""
    path = tmp_path / "slow"
    # It says where it is only when Python knows of it, too, even on a busy machine.
    path.write_text(f"#!/bin/sh\nsleep 1\necho $$ > {tmp_path}/pid\nexec sleep 900\n")
    path.chmod(0o755)
    code = "from dncx.kernels import compiler; compiler.find_compiler()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"CXX": str(path)}, stderr=subprocess.PIPE
    ) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    assert b"KeyboardInterrupt" in errors
    assert _ends(int((tmp_path / "pid").read_text()))
