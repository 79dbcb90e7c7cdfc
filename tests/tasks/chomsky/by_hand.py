"""The fifteen languages again, as plain Python on strings: the answer to each input.

Arithmetic is Python's own: expressions are evaluated, equations are solved by trying, and numbers
are integers of any length.
"""

import math


def _modulo(expression):
    return str(eval(expression) % 5)


def _even_pairs(text):
    return str((text.count("01") + text.count("10")) % 2)


def _cycle_navigation(symbols):
    return str(sum(map(int, symbols)) % 5)


def _stack_manipulation(symbols):
    stack = []
    for symbol in symbols:
        if symbol == "pop":
            stack = stack[:-1]
        else:
            stack.append(symbol[-1])
    return [*reversed(stack), "end"]


def _solve_equation(text):
    if len(text) < 3:
        return "0"
    left, value = text.split("=")
    solutions = [x for x in "01234" if _modulo(left.replace("x", x)) == value]
    (solution,) = solutions
    return solution


def _missing_duplicate(text):
    if text == "1":
        return "1"
    text = text.removesuffix(".")
    halves = text[: len(text) // 2], text[len(text) // 2 :]
    (answer,) = (b if a == "_" else a for a, b in zip(*halves, strict=True) if a != b)
    return answer


def _lowest_first(text):
    return int(text[::-1], 2)


def _binary_addition(text):
    total = sum(map(_lowest_first, text.split("+")))
    return [*f"{total:b}"[::-1], "end"]


def _binary_multiplication(text):
    if len(text) < 3:
        return [*"0"[: len(text) - 1], "end"]
    return [*f"{math.prod(map(_lowest_first, text.split('*'))):b}"[::-1], "end"]


def _compute_sqrt(text):
    return f"{math.isqrt(int(text, 2)):b}".zfill(math.ceil(len(text) / 2))


# Each answer up to the symbol that ends it; with `symbols`, the input is a list, not one string.
ANSWERS = {
    "even-pairs": _even_pairs,
    "modular-arithmetic": _modulo,
    "parity-check": lambda text: str(text.count("1") % 2),
    "cycle-navigation": _cycle_navigation,
    "stack-manipulation": _stack_manipulation,
    "reverse-string": lambda text: text[::-1],
    "modular-arithmetic-brackets": _modulo,
    "solve-equation": _solve_equation,
    "duplicate-string": lambda text: text + text,
    "missing-duplicate": _missing_duplicate,
    "odds-first": lambda text: text[0::2] + text[1::2],
    "binary-addition": _binary_addition,
    "binary-multiplication": _binary_multiplication,
    "compute-sqrt": _compute_sqrt,
    "bucket-sort": sorted,
}
SYMBOLS_LONGER_THAN_A_LETTER = ("cycle-navigation", "stack-manipulation")


def answer(language, symbols):
    """The scored symbols of the answer to an input."""
    return list(
        ANSWERS[language](symbols if language in SYMBOLS_LONGER_THAN_A_LETTER else "".join(symbols))
    )
