"""Conversion of the lines of a file to stories: one word per step, with slots for the answers.

file         1 Mary got the milk.     2 What is Mary carrying?<tab>milk,apple<tab>1
tokens       mary got the milk .      what is mary carrying ?  -     -
answers                                                        milk  apple
"""

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Int16

from dncx.tasks.babi.vocabulary import INDEX, NOTHING, QUESTION, SIGNS, SLOT, STOP
from dncx.tasks.text import clean, decode, quoted

ENDS = (".", "।")  # of a statement; the second one is Hindi's


class Story(NamedTuple):
    """The words of a story and the answers to give, step by step, as indices of tokens."""

    task: int
    tokens: Int16[np.ndarray, " T"]
    answers: Int16[np.ndarray, " T"]  # NOTHING wherever the token is not a SLOT

    @property
    def length(self) -> int:
        """Its number of steps."""
        return len(self.tokens)

    @property
    def questions(self) -> int:
        """Its number of questions."""
        return int((self.tokens == QUESTION).sum())


class Line(NamedTuple):
    """A statement or a question."""

    place: int  # line of the file, from 1
    number: int  # within the story, from 1
    words: tuple[str, ...]
    answers: tuple[str, ...]  # empty for a statement
    facts: tuple[int, ...]  # numbers of the lines that support the answer; no model sees them


class _Sentence(NamedTuple):
    """The content of a line, without its number."""

    words: tuple[str, ...]
    answers: tuple[str, ...]


def parse(
    content: bytes, name: str, task: int, index: Mapping[str, int] = INDEX, advice: str = ""
) -> list[Story]:
    """The stories of a file, in order.

    Args:
      content: the file, as the data's README describes it; blank lines are ignored.
      name: the file's name, for messages.
      task: the number of its task.
      index: the index of each token; by default that of the paper's vocabulary.
      advice: ends the message about a word without an index.

    Raises:
      ValueError: if a line is malformed or has a word without an index; the message names file and
        line.
    """
    return [_story(task, lines, name, index, advice) for lines in read_lines(content, name)]


def words_of(stories: Iterable[Iterable[Line]]) -> set[str]:
    """All words of the stories and their answers."""
    return {word for lines in stories for line in lines for word in (*line.words, *line.answers)}


def read_lines(content: bytes, name: str) -> list[list[Line]]:
    """The lines of each story of a file.

    Raises:
      ValueError: if a line is malformed, or a story has no question; the message names file and
        line.
    """
    stories: list[list[Line]] = []
    known: dict[str, _Sentence] = {}  # most sentences occur many times
    previous = 0
    for place, raw in _numbered(decode(content, name)):
        try:
            line = _parse_line(place, raw, known)
            if line.number == 1:
                stories.append([])
            elif line.number != previous + 1:
                raise ValueError(
                    f"number {line.number} after {previous}; numbers must rise by 1 or restart at 1"
                )
        except ValueError as error:
            raise ValueError(f"{name}:{place}: {error}; the line is {quoted(raw)}") from None
        stories[-1].append(line)
        previous = line.number
    for count, story in enumerate(stories, 1):
        if not any(line.answers for line in story):
            raise ValueError(f"{name}:{story[0].place}: story {count} has no question")
    return stories


def _numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1, without their ends."""
    for place, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield place, line.rstrip("\n")


def _parse_line(place: int, raw: str, known: dict[str, _Sentence]) -> Line:
    match = re.fullmatch(r"([0-9]{1,9})\s+(.+)", raw.strip())
    if match is None:
        raise ValueError("must be a line number, a blank and a sentence")
    number, rest = int(match[1]), match[2]
    sentence, *fields = rest.split("\t")
    if len(fields) > 2:
        raise ValueError("must be a question, its answer and its facts, separated by tabs")
    facts = _facts(fields[1], number) if len(fields) == 2 else ()
    answer = fields[0] if fields else None
    key = f"{sentence}\t{answer}"
    if key not in known:
        known[key] = _parse_sentence(sentence, answer)
    return Line(place, number, *known[key], facts)


def _facts(facts: str, number: int) -> tuple[int, ...]:
    """The facts of an answer, which must be numbers of earlier lines."""
    for fact in facts.split():
        if not (re.fullmatch("[0-9]{1,9}", fact) and 0 < int(fact) < number):
            raise ValueError(f"fact {quoted(fact)}: must be the number of an earlier line")
    return tuple(int(fact) for fact in facts.split())


def _parse_sentence(sentence: str, answer: str | None) -> _Sentence:
    """The words of a statement, or of a question with its answer."""
    sentence = sentence.strip()
    if answer is None:
        if sentence.endswith("?"):
            raise ValueError("a question without an answer: add a tab and the answer")
        if not sentence.endswith(ENDS):
            raise ValueError("a statement must end with '.'")
    elif not sentence.endswith("?"):
        raise ValueError("a question must end with '?'")
    words = _words(sentence[:-1])
    parts = [] if answer is None else [_words(part) for part in answer.split(",")]
    if not words:
        raise ValueError("a sentence without words")
    if not all(parts):
        raise ValueError("an answer without words")
    return _Sentence(words, tuple(word for part in parts for word in part))


def _words(text: str) -> tuple[str, ...]:
    words = tuple(clean(text).lower().split())
    for word in words:
        if word in SIGNS or word.endswith((*ENDS, "?")):
            raise ValueError(
                f"{quoted(word)} is not a word: a line must have one sentence "
                "that ends with one mark"
            )
    return words


def _story(task: int, lines: list[Line], name: str, index: Mapping[str, int], advice: str) -> Story:
    """The words as numbers."""
    tokens: list[int] = []
    answers: list[int] = []
    for line in lines:
        try:
            words = [index[word] for word in line.words]
            due = [index[word] for word in line.answers]
        except KeyError as error:
            word, count = error.args[0], len(index) - len(SIGNS)
            raise ValueError(
                f"{name}:{line.place}: {quoted(word)} is not one of the {count} words of the "
                f"vocabulary{'; ' if advice else ''}{advice}"
            ) from None
        sign = QUESTION if due else STOP
        tokens += [*words, sign, *[SLOT] * len(due)]
        answers += [*[NOTHING] * (len(words) + 1), *due]
    return Story(task, np.array(tokens, np.int16), np.array(answers, np.int16))
