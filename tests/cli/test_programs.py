"""Compiled programs that a crash left damaged are replaced, and nothing else warns."""

import os
import subprocess
import sys
import warnings

import pytest

from dncx.cli.programs import damaged_programs_replaced

# Compiles a program, damages what JAX kept of it, and needs it again in the same way.
PROGRAM = """
import pathlib, sys
from dncx.cli.programs import damaged_programs_replaced, keep_programs

keep_programs(True)
import jax

folder, damage = pathlib.Path(sys.argv[1]), sys.argv[2]

def kept():
    jax.clear_caches()
    with damaged_programs_replaced():
        assert jax.jit(lambda x: x + 1.0)(jax.numpy.ones(3)).tolist() == [2.0, 2.0, 2.0]
    return {p.name: p.read_bytes() for p in folder.glob("jit__lambda*-cache")}

first = kept()
(name,) = first
path = folder / name
if damage == "folder":
    path.unlink()
    path.mkdir()
else:
    path.write_bytes({"empty": b"", "cut": first[name][:100], "text": b"hello"}[damage])
assert kept().keys() == first.keys()
assert len(path.read_bytes()) > 100
written = path.stat().st_mtime_ns
kept()
assert path.stat().st_mtime_ns == written
"""


@pytest.mark.parametrize(
    ("damage", "filters"),
    [("empty", ""), ("cut", ""), ("text", "ignore"), ("folder", "error")],
)
def test_a_damaged_program_is_replaced(damage, filters, tmp_path):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PLATFORMS": "cpu",
        "PYTHONWARNINGS": filters,
    }
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), damage]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) == 1  # it says so once


def test_other_warnings_pass():
    with pytest.warns(UserWarning, match="another"), damaged_programs_replaced():
        warnings.warn("another", stacklevel=1)
