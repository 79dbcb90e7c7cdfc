"""Errors that a user can fix: the command line shows their message without a stack trace."""

from collections.abc import Iterable, Sequence

_SHOWN = 60  # characters of a typed word
# Of difflib's ratios: the least for a misspelling, the tolerance below the best, and the most
# suggestions that still help. A word of four letters with two exchanged has 0.75.
_ALIKE, _AS_GOOD, _SUGGESTED = 0.66, 0.05, 4


class UsageError(ValueError):
    """The request cannot be carried out; nothing was written or changed. Exit code 2."""


class TrainingError(RuntimeError):
    """Training had to stop; the message names what was kept. Exit code 1."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the most similar known words, if any."""
    import difflib  # only once there is an error

    by_spelling = {_spelled(name): name for name in known}
    likeness = {
        name: difflib.SequenceMatcher(a=_spelled(word), b=spelled).ratio()
        for spelled, name in by_spelling.items()
    }
    best = max(likeness.values(), default=0.0)
    if best < _ALIKE:  # a beginning, as in --memory for --memory_size
        found = [n for spelled, n in by_spelling.items() if spelled.startswith(_spelled(word))]
    else:
        found = [name for name, ratio in likeness.items() if ratio > best - _AS_GOOD]
    return f"; did you mean {one_of(found)}?" if 0 < len(found) <= _SUGGESTED else ""


def _spelled(word: str) -> str:
    return word.lower().replace("_", "-").strip("-")


def one_of(names: Sequence[str]) -> str:
    """Names as in "a, b or c"."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def quoted(word: str) -> str:
    """A typed word for a message: on one line and of limited length."""
    line = word if word.isprintable() else ascii(word)
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
