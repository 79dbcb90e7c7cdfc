"""The documented commands of the examples, at their real settings, and files that they refuse."""

import ast
import io
import re
import runpy
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from dncx.cli import task_main

EXAMPLES = Path(__file__).parent.parent / "examples"
SUMS = {
    "inputs": np.ones((3, 5, 2)),
    "targets": np.ones((3, 5, 2)).cumsum(axis=1),
    "mask": np.ones((3, 5)),
}


def documentation(name):
    return ast.get_docstring(ast.parse((EXAMPLES / name).read_text()))


def run_commands(text, folder):
    """Runs the lines `python examples/...`, as a user would; gives what each one printed."""
    lines = text.replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("python ")]
    printed = []
    for _, example, *arguments in commands:
        command = [sys.executable, str(EXAMPLES.parent / example), *arguments]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stdout + result.stderr
        printed.append(result.stdout)
    return printed


def sequence_errors(text):
    """The per cents of a sweep's table by (length, memory size)."""
    rows = re.findall(r"^ +(\d+) +(\d+) +[\d.]+% +([\d.]+)%", text, re.M)
    return {(int(length), int(size)): float(error) for length, size, error in rows}


@pytest.mark.second_step
def test_own_task(tmp_path):
    """Trained, and measured with a larger memory. Numbers differ a little between machines."""
    text = documentation("own_task.py")
    _, table = run_commands(text, tmp_path)
    documented, found = sequence_errors(text), sequence_errors(table)
    assert list(found) == list(documented)
    assert len(found) == 6
    for point, error in documented.items():
        assert abs(found[point] - error) < (2 if point[0] < 16 else 25), point
    assert found[16, 32] < 0.6 * found[16, 16]


@pytest.mark.second_step
def test_own_data(tmp_path):
    text = documentation("own_data.py")
    (code,) = re.findall(r"^    import numpy.*?(?=^\S)", text, re.M | re.S)
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=True)
    _, report = run_commands(text, tmp_path)
    documented = float(re.search(r"([\d.]+) % of the variance", text)[1])
    found = float(re.search(r"unexplained +([\d.]+)%", report)[1])
    assert documented / 3 < found < 3 * documented


@pytest.fixture(scope="module")
def own_data():
    return runpy.run_path(str(EXAMPLES / "own_data.py"))["OwnData"]


def npz(**changes):
    """The bytes of a file, with some arrays changed, or left out (None)."""
    file = io.BytesIO()
    arrays = {name: array for name, array in (SUMS | changes).items() if array is not None}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_nan(array):
    array = np.array(array)
    array[0, 0] = np.nan
    return array


WRONG_FILES = {
    "missing": (None, "no such file"),
    "empty": (b"", "not an intact .npz file"),
    "text": (b"1,2,3\n", "not an intact .npz file"),
    "cut": (npz()[:-100], "not an intact .npz file"),
    "damaged": (npz()[:80] + bytes(20) + npz()[100:], "cannot be read"),
    "one array": (npy(np.ones(3)), "one array"),
    "no mask": (npz(mask=None), "no array mask; it has inputs, targets"),
    "another step count": (npz(mask=np.ones((3, 6))), r"\(3, 6\)"),
    "another sequence count": (npz(targets=np.ones((4, 5, 2))), r"\(4, 5, 2\)"),
    "two axes": (npz(inputs=np.ones((3, 5))), r"\(3, 5\)"),
    "no sequences": (
        npz(inputs=np.ones((0, 5, 2)), targets=np.ones((0, 5, 2)), mask=np.ones((0, 5))),
        "not 0",
    ),
    "objects": (npz(inputs=np.array([{"a": 1}])), "inputs cannot be read"),
    "texts": (npz(targets=np.full((3, 5, 2), "x")), "targets .*<U1"),
    "complex numbers": (npz(targets=np.ones((3, 5, 2), complex)), "targets .*complex128"),
    "not a number": (npz(inputs=with_nan(SUMS["inputs"])), "inputs has NaN"),
    "too large": (npz(inputs=np.full((3, 5, 2), 1e300)), "inputs has NaN, or numbers too large"),
    "nothing counts": (npz(mask=np.array([[1.0] * 5, [0.0] * 5, [1.0] * 5])), "sequence 1"),
}


@pytest.mark.parametrize(("content", "cause"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_wrong_file_is_one_message(content, cause, own_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("some.npz").write_bytes(content)
    before = sorted(tmp_path.iterdir())
    assert task_main(own_data, ["train", "--data_file=some.npz"]) == 2
    error = capsys.readouterr().err
    assert "data_file=some.npz" in error
    assert re.search(cause, error)
    assert sorted(tmp_path.iterdir()) == before
