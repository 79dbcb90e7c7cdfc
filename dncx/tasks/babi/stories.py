"""From the lines of a file to stories: one word a step, with slots for the answers.

file         1 Mary got the milk.     2 What is Mary carrying?<tab>milk,apple<tab>1
tokens       mary got the milk .      what is mary carrying ?  -     -
answers                                                        milk  apple
"""

import io
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from dncx.tasks.babi.vocabulary import INDEX, NOTHING, QUESTION, SLOT, STOP, WORDS


class Story(NamedTuple):
    """What is read, and what is to be answered, word by word; both index `vocabulary.TOKENS`."""

    task: int
    tokens: UInt8[np.ndarray, " T"]
    answers: UInt8[np.ndarray, " T"]  # NOTHING but where a token is SLOT

    @property
    def length(self) -> int:
        """Its steps."""
        return len(self.tokens)

    @property
    def questions(self) -> int:
        """How many are asked."""
        return int((self.tokens == QUESTION).sum())


class _Line(NamedTuple):
    number: int
    tokens: list[int]  # with the sign at the end
    answers: list[int]  # of a statement, none


def parse(text: bytes, name: str, task: int) -> list[Story]:
    """The stories of a file, in order.

    Args:
      text: the content, as the data's README describes it.
      name: for messages.
      task: the number of its task.

    Raises:
      ValueError: a line is not as it should be; file and line are named.
    """
    stories: list[list[_Line]] = []
    seen: dict[str, tuple[list[int], list[int]]] = {}  # most sentences come many times
    previous = 0
    for place, raw in _lines(text):
        try:
            line = _parse_line(raw, seen)
            if line.number == 1:
                stories.append([])
            elif line.number != previous + 1:
                raise ValueError(f"number {line.number} after {previous}; it goes up by 1, or to 1")
        except ValueError as error:
            raise ValueError(f"{name}:{place}: {str(error)[:100]}: {raw[:80]!r}") from None
        stories[-1].append(line)
        previous = line.number
    for count, story in enumerate(stories, 1):
        if not any(line.answers for line in story):
            raise ValueError(f"{name}: story {count} asks nothing")
    return [_story(task, story) for story in stories]


def _lines(text: bytes) -> Iterator[tuple[int, str]]:
    """Numbered from 1, without what ends them. Signs outside ASCII fail as unknown words."""
    for place, line in enumerate(io.BytesIO(text), 1):
        decoded = line.removesuffix(b"\n").decode("ascii", errors="backslashreplace")
        yield place, decoded.rstrip("\r")


def _parse_line(raw: str, seen: dict[str, tuple[list[int], list[int]]]) -> _Line:
    match = re.fullmatch(r"([0-9]{1,9}) (.+)", raw)
    if match is None:
        raise ValueError("not a line number, a space and a sentence")
    number, rest = int(match[1]), match[2]
    sentence, *fields = rest.split("\t")
    if len(fields) not in (0, 2):
        raise ValueError("not a sentence, nor question, answer and facts with tabs between")
    answer = fields[0] if fields else ""
    sign = "?" if fields else "."
    if not sentence.rstrip().endswith(sign):
        raise ValueError(f"does not end with {sign!r}")
    if fields:
        facts = fields[1].split(" ")
        if not all(re.fullmatch("[0-9]{1,9}", fact) and 0 < int(fact) < number for fact in facts):
            raise ValueError(f"facts {fields[1]!r}: not numbers of lines before, spaces between")
    key = f"{sentence}\t{answer}"
    if key not in seen:
        words = [_word(word) for word in sentence.rstrip()[:-1].split()]
        if not words:
            raise ValueError("no words")
        answers = [_word(word) for word in answer.split(",")] if fields else []
        seen[key] = ([*words, QUESTION if fields else STOP], answers)
    return _Line(number, *seen[key])


_WORDS = {word: INDEX[word] for word in WORDS}


def _word(word: str) -> int:
    try:
        return _WORDS[word.lower()]
    except KeyError:
        raise ValueError(f"{word!r} is not one of the {len(WORDS)} words of the data") from None


def _story(task: int, lines: list[_Line]) -> Story:
    tokens, answers = [], []
    for line in lines:
        tokens += line.tokens + [SLOT] * len(line.answers)
        answers += [NOTHING] * len(line.tokens) + line.answers
    return Story(task, np.array(tokens, np.uint8), np.array(answers, np.uint8))
