"""The commands of docs/tasks.md, at their real settings, end in the results printed there."""

import re
import shlex
from pathlib import Path

import pytest
from commands import carry_out

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
# Sections by their titles, and of each the blocks of commands and of what they print.
SECTIONS = dict(re.findall(r"^##? (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
LEFT_OUT = (
    "tasks_1-20",  # needs the data of bAbI
    "my-stories",
    "examples/",  # see test_examples
    "num_nodes",  # its table is not printed there
)


def blocks(section, language):
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.M | re.S)


def commands(section):
    lines = [line for block in blocks(section, "sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if not any(text in line for text in LEFT_OUT)]


def per_cents(text):
    """The numbers with a % of each line that has some."""
    return [[float(n) for n in re.findall(r"([\d.]+)%", line)] for line in text.splitlines()]


def test_every_section_is_known():
    assert list(SECTIONS) == [
        "Tasks", "Baselines", "Evaluation", "bAbI", "Graphs", "Formal languages", "Acting",
        "Mini-SHRDLU", "A custom task",
    ]  # fmt: skip
    assert all(blocks(section, "sh") for section in SECTIONS)


def variables(command):
    """An LSTM trains four times as fast with LLVM's optimisations; the kernel computes a DNC."""
    return {"XLA_FLAGS": ""} if "--model=lstm" in command else {}


@pytest.mark.second_step
@pytest.mark.parametrize("section", ["Tasks", "Baselines", "Evaluation", "Graphs"])
def test_documented_results(section, tmp_path):
    """The shares of errors; those of a trained network differ a little between machines."""
    printed = [carry_out(command, tmp_path, **variables(command)) for command in commands(section)]
    documented = next(text for text in blocks(section, "text") if "%" in text)
    found, expected = ([row for row in per_cents(t) if row] for t in (printed[-1], documented))
    assert len(found) == len(expected)
    for row, numbers in zip(found, expected, strict=True):
        assert row == pytest.approx(numbers, rel=0.25, abs=2), printed[-1]
