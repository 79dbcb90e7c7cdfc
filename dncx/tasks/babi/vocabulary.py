"""The words and symbols of stories.

The paper's vocabulary is the same for every choice of tasks: the 156 words of the English tasks,
without numbers and capitals, and three symbols.
"""

from collections.abc import Sequence
from importlib import resources

SIGNS = ("-", ".", "?")
SLOT, STOP, QUESTION = range(3)  # at a SLOT, the network must give a word of the answer
NOTHING = -1  # no word: steps after the end of a story, steps without an answer
LARGEST = 2**15 - len(SIGNS)  # words: tokens are kept as 16-bit integers

PAPER = tuple(resources.files("dncx.tasks.babi").joinpath("words.txt").read_text("ascii").split())


def tokens_of(words: Sequence[str]) -> tuple[str, ...]:
    """The token at each index of the inputs and outputs."""
    return (*SIGNS, *words)


TOKENS = tokens_of(PAPER)
INDEX = {token: index for index, token in enumerate(TOKENS)}
