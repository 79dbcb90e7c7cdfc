"""The types of the public functions, as a strict type checker of a user's program sees them."""

import inspect
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from flax import nnx

import dncx

PROGRAM = Path(__file__).with_name("user_program.py")
PYRIGHT = shutil.which("pyright", path=str(Path(sys.executable).parent))


@pytest.mark.second_step
@pytest.mark.skipif(PYRIGHT is None, reason="pyright is in the group lint")
def test_a_users_program_passes_strict_types(tmp_path):
    """And fails with a part that does not fit, so the checker does look."""
    wrong = tmp_path / "wrong.py"
    source = PROGRAM.read_text()
    assert source.count("linkage=LastWrittenLinkage()") == 1
    wrong.write_text(source.replace("linkage=LastWrittenLinkage()", "linkage=DecayingUse(8)"))
    # One call for both, as most of its time goes into the types of dncx and JAX.
    done = subprocess.run(
        [str(PYRIGHT), "--outputjson", "--pythonpath", sys.executable, str(PROGRAM), str(wrong)],
        capture_output=True, text=True, cwd=PROGRAM.parent, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 2
    messages = {path: [] for path in (PROGRAM, wrong)}
    for found in report["generalDiagnostics"]:
        messages[Path(found["file"])].append(found["message"])
    assert messages[PROGRAM] == []
    assert any("LinkageLike" in message for message in messages[wrong])


@pytest.mark.parametrize(
    "part", [dncx.DNC, dncx.MemoryAccess, dncx.LSTM, dncx.DeepLSTM, dncx.FeedForward]
)
def test_help_begins_with_the_arguments(part):
    class Derived(part):
        def __init__(self, size: int):
            super().__init__(size, size, rngs=nnx.Rngs(0))

    assert next(iter(inspect.signature(part).parameters)) == "input_size"
    assert "rngs" in inspect.signature(part).parameters
    assert [*inspect.signature(Derived).parameters] == ["size"]


@pytest.mark.second_step
def test_a_users_program_runs(capsys):
    runpy.run_path(str(PROGRAM), run_name="__main__")
    forms = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in forms[:2]] == ["xla", "xla"]
    assert "Nearest" in forms[0]
    assert "Blackboard" in forms[1]


def test_own_parts_are_what_the_protocols_ask_for():
    rngs = nnx.Rngs(0)
    parts = {
        dncx.ContentLike: dncx.ContentAddressing(),
        dncx.FreenessLike: dncx.Freeness(3),
        dncx.LinkageLike: dncx.TemporalLinkage(3),
        dncx.AccessLike: dncx.MemoryAccess(3, rngs=rngs),
    }
    for protocol, part in parts.items():
        assert isinstance(part, protocol)
        assert not isinstance(object(), protocol)
    for controller in (
        dncx.LSTM(3, 4, rngs=rngs),
        dncx.DeepLSTM(3, 4, rngs=rngs),
        dncx.FeedForward(3, 4, rngs=rngs),
        nnx.GRUCell(3, 4, rngs=rngs),
        dncx.DNC(3, 4, rngs=rngs),
    ):
        assert isinstance(controller, dncx.ControllerLike)
