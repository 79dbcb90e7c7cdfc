"""What the README shows works."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.M | re.S)


def run(command, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "PATH": path},
        timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_commands_are_those_that_a_reader_tries_first():
    """tests/test_docs.py runs them, and checks what they print."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(line) for line in lines if line.startswith(("python", "dncx"))]
    assert [command[:2] for command in commands] == [
        ["dncx", "explore"], ["dncx", "train"], ["dncx", "eval"], ["python", "train.py"]
    ]  # fmt: skip


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    targets = [line.split()[1] for line in lines if line.startswith("make")]
    assert targets == ["train", "test", "docs"]
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)


def test_the_example_prints_what_it_says(tmp_path):
    (example,) = blocks("python")
    printed = run([sys.executable, "-c", example], tmp_path).splitlines()
    said = re.findall(r"^print.*  # ([^:\n]+)", example, re.M)
    assert printed == said


def test_the_example_of_training_learns(tmp_path):
    """It is the first of the how-tos."""
    page = (ROOT / "docs" / "how-to.md").read_text()
    imports, example = re.findall(r"^```{code-cell} ipython3\n(.*?)^```", page, re.M | re.S)[:2]
    start = "for step in range(200):"
    assert start in example
    code = example.replace(start, "print(train_step(cell, optimizer))\n" + start)
    first, last = run([sys.executable, "-c", imports + code], tmp_path).split()
    assert float(last) < 0.8 * float(first)


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]
    for page in pages:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"
