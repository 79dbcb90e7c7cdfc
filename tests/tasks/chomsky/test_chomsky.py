"""The formal languages against plain Python, and the task made of them."""

import functools
import re
from collections import Counter
from typing import get_args

import by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncx.cli.main import main
from dncx.tasks.base import Describable, Episode, Task
from dncx.tasks.chomsky.binary import num_bits, product, random_positive, square_root
from dncx.tasks.chomsky.settings import LanguageName
from dncx.tasks.chomsky.task import LANGUAGES, Chomsky

NAMES = [*LANGUAGES]
# Sizes of the inputs with the empty token, sizes of the outputs, and outputs for inputs of 10.
SIZES = {
    "even-pairs": (3, 2, 1),
    "modular-arithmetic": (9, 5, 1),
    "parity-check": (3, 2, 1),
    "cycle-navigation": (4, 5, 1),
    "stack-manipulation": (6, 3, 11),
    "reverse-string": (3, 2, 10),
    "modular-arithmetic-brackets": (11, 5, 1),
    "solve-equation": (12, 5, 1),
    "duplicate-string": (3, 2, 20),
    "missing-duplicate": (5, 2, 1),
    "odds-first": (3, 2, 10),
    "binary-addition": (4, 3, 11),
    "binary-multiplication": (4, 3, 10),
    "compute-sqrt": (3, 2, 5),
    "bucket-sort": (6, 5, 10),
}


def drawn(task, seed=0, count=100):
    """Episodes as NumPy arrays, drawn inside jit."""
    episode = jax.jit(task.sample, static_argnums=1)(jax.random.key(seed), count)
    return jax.tree.map(np.asarray, episode)


@functools.cache
def short(language):
    """The task with lengths up to 14, and 1,000 of its sequences: one program per language."""
    task = Chomsky(language=language, max_length=14)
    return task, drawn(task, count=1000)


def one(episode, number):
    """A batch of one sequence."""
    return Episode(*jax.tree.map(lambda x: x[number : number + 1], episode))


def strings(task, episode):
    """The input and the scored answer of each sequence, as symbols."""
    language = LANGUAGES[task.language]
    for inputs, targets, scored in zip(*(episode[i] for i in (0, 1, 3)), strict=True):
        shown = inputs[:, :-1].any(axis=-1)
        yield (
            [language.inputs[n] for n in inputs[shown].argmax(axis=-1)],
            [language.outputs[n] for n in targets[scored > 0].argmax(axis=-1)],
        )


def check_layout(task, episode):
    """First the string, then empty tokens at the steps that count, then nothing."""
    language = LANGUAGES[task.language]
    assert episode.inputs.shape[1:] == (task.time_steps, task.input_size)
    assert episode.targets.shape[1:] == (task.time_steps, task.output_size)
    for inputs, targets, mask, scored in zip(*episode, strict=True):
        length = int(inputs[:, :-1].sum())
        end = length + language.output_length(length)
        assert task.min_length - 1 <= length <= task.max_length
        np.testing.assert_array_equal(inputs.sum(axis=-1), np.arange(len(inputs)) < end)
        np.testing.assert_array_equal(inputs[:, -1], mask)
        np.testing.assert_array_equal(targets.sum(axis=-1), mask)
        assert mask.sum() == end - length
        assert (scored <= mask).all()
        unscored = (mask > 0) & (scored == 0)
        assert not targets[unscored, 1:].any()  # padding: the symbol 0
        assert language.has_end or not unscored.any()


@pytest.mark.parametrize("language", NAMES)
def test_strings_and_answers(language):
    task, episode = short(language)
    check_layout(task, episode)
    lengths = set()
    for symbols, answer in strings(task, episode):
        assert answer == by_hand.answer(language, symbols), symbols
        lengths.add(len(symbols))
    valid = {n for n in range(1, 15) if n % 2 or language != "modular-arithmetic"}
    assert lengths == valid


@pytest.mark.second_step
@pytest.mark.parametrize("language", NAMES)
def test_long_strings(language):
    task = Chomsky(language=language, min_length=150, max_length=151)
    episode = drawn(task, count=4)
    check_layout(task, episode)
    for symbols, answer in strings(task, episode):
        assert len(symbols) in (149, 150, 151)
        assert answer == by_hand.answer(language, symbols)


@pytest.mark.second_step
@pytest.mark.parametrize("language", NAMES)
def test_strings_of_two_thousand(language):
    task = Chomsky(language=language, min_length=1999, max_length=1999)
    for symbols, answer in strings(task, drawn(task, count=2)):
        if language in ("modular-arithmetic-brackets", "solve-equation"):
            continue  # Python's parser does not nest as deeply
        assert len(symbols) == 1999
        assert answer == by_hand.answer(language, symbols)


@pytest.mark.parametrize("language", NAMES)
def test_sizes(language):
    task = Chomsky(language=language)
    inputs, outputs, answer = SIZES[language]
    assert (task.input_size, task.output_size) == (inputs, outputs)
    assert LANGUAGES[language].output_length(10) == answer
    longest = 39 if language == "modular-arithmetic" else 40
    assert task.time_steps == longest + LANGUAGES[language].output_length(longest)
    assert isinstance(task, Task)
    assert isinstance(task, Describable)


def test_levels():
    assert list(get_args(LanguageName)) == NAMES
    levels = Counter(language.level for language in LANGUAGES.values())
    assert levels == {"regular": 4, "deterministic context-free": 4, "context-sensitive": 7}


# Examples of the paper's code.
PUBLISHED = [
    ("even-pairs", "0 0 1 1 1 0", "0"),
    ("even-pairs", "0 1 0 1 0 0 1", "1"),
    ("modular-arithmetic", "0 * 1 + 4 * 3 - 2", "0"),
    ("parity-check", "1 0 1 0 1 0 0", "1"),
    ("cycle-navigation", "+1 -1 0 -1 -1", "3"),
    ("stack-manipulation", "0 1 1 0 push1 pop pop", "1 1 0 end"),
    ("stack-manipulation", "1 1 0 pop pop pop", "end"),
    ("reverse-string", "0 1 1 0 1 0", "0 1 0 1 1 0"),
    ("duplicate-string", "1 0 1", "1 0 1 1 0 1"),
    ("missing-duplicate", "0 1 1 0 0 _ 1 0", "1"),
    ("missing-duplicate", "1 0 1 1 _ 1 .", "0"),
    ("odds-first", "0 0 1 1 0 1 0 1", "0 1 0 0 0 1 1 1"),
    ("binary-addition", "0 0 1 + 0 1 1 0 1", "0 1 0 1 1 end"),
    ("binary-multiplication", "1 0 0 1 * 0 0 0 0 0 1", "0 0 0 0 0 1 0 0 1 end"),
    ("compute-sqrt", "1 0 0 1 0 1", "1 1 0"),
    ("bucket-sort", "1 0 2 0 4 1 1 2", "0 0 1 1 1 2 2 4"),
]


@pytest.mark.parametrize(("language", "string", "answer"), PUBLISHED)
def test_the_definitions_by_hand_are_the_published_ones(language, string, answer):
    assert by_hand.answer(language, string.split()) == answer.split()


def shares(values):
    counts = Counter(values)
    return {value: count / sum(counts.values()) for value, count in sorted(counts.items())}


def test_lengths_are_uniform():
    """An even length becomes the odd one below it."""
    task = Chomsky(language="modular-arithmetic", min_length=2, max_length=6)
    lengths = drawn(task, count=4000).inputs[:, :, :-1].sum(axis=(1, 2))
    assert shares(lengths.tolist()) == pytest.approx({1: 0.2, 3: 0.4, 5: 0.4}, abs=0.03)


def test_positive_numbers_are_uniform():
    def draw(key):
        return random_positive(key, jnp.array(3), 5)

    numbers = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 7000))
    assert not np.asarray(numbers)[:, 3:].any()
    values = (np.asarray(numbers) @ [1, 2, 4, 0, 0]).tolist()
    assert shares(values) == pytest.approx(dict.fromkeys(range(1, 8), 1 / 7), abs=0.02)


def test_expressions_split_uniformly():
    """(A o B) of length 9: A has 1 to 5 symbols. The first part ends where the brackets close."""
    task = Chomsky(language="modular-arithmetic-brackets", min_length=9, max_length=9)
    splits, operators = [], []
    for symbols, _ in strings(task, drawn(task, count=2000)):
        depth = np.cumsum([{"(": 1, ")": -1}.get(symbol, 0) for symbol in symbols])
        place = next(
            n
            for n in range(2, 9)
            if depth[n] == 1 and symbols[n] in "+-*" and symbols[n - 1] != "("
        )
        splits.append(place - 1)
        operators.append(symbols[place])
    assert shares(splits) == pytest.approx(dict.fromkeys(range(1, 6), 0.2), abs=0.04)
    assert shares(operators) == pytest.approx(dict.fromkeys("*+-", 1 / 3), abs=0.04)


@pytest.mark.parametrize(
    ("language", "length", "inputs"),
    [
        ("modular-arithmetic-brackets", 1, {*"01234"}),
        ("modular-arithmetic-brackets", 2, {f"-{d}" for d in "01234"}),
        ("modular-arithmetic-brackets", 3, {f"({d})" for d in "01234"}),
        ("modular-arithmetic-brackets", 4, {f"(-{d})" for d in "01234"}),
        ("solve-equation", 1, {"0"}),
        ("solve-equation", 2, {"00"}),
        ("solve-equation", 3, {f"x={d}" for d in "01234"}),
        ("missing-duplicate", 1, {"1"}),
        ("missing-duplicate", 2, {"_0", "0_", "_1", "1_"}),
        ("missing-duplicate", 3, {"_0.", "0_.", "_1.", "1_."}),
        ("binary-addition", 1, {"0"}),
        ("binary-addition", 2, {"00", "10", "01"}),
        ("binary-multiplication", 3, {"1*1"}),
        ("stack-manipulation", 1, {"0", "1"}),
        ("compute-sqrt", 1, {"1"}),
    ],
)
def test_all_short_strings(language, length, inputs):
    found = ("".join(symbols) for symbols, _ in strings(*short(language)) if len(symbols) == length)
    assert {*found} == inputs


def bits_of(number, size):
    return jnp.array([number >> i & 1 for i in range(size)], jnp.int32)


def number_of(bits):
    return sum(int(bit) << i for i, bit in enumerate(np.asarray(bits)))


def test_arithmetic_at_its_limits():
    """All ones carry through every bit; squares and their neighbours have different roots."""
    ones = 2**20 - 1
    assert number_of(product(bits_of(ones, 40), bits_of(ones, 40))) == ones**2
    assert num_bits(bits_of(0, 4)) == 0
    for number, root in [(ones**2, ones), (ones**2 - 1, ones - 1), (4**19, 2**19)]:
        length = number.bit_length()
        found = square_root(bits_of(number, 40)[:length][::-1], jnp.array(length))
        assert number_of(found[::-1]) == root


def test_loss_and_scores():
    """A guess costs log 3 nats per symbol; symbols behind the end are not scored."""
    task, episode = short("binary-addition")
    episode = jax.tree.map(lambda x: jnp.asarray(x[:20]), episode)
    guess = jnp.zeros(episode.targets.shape)
    assert np.isclose(task.loss(guess, episode), np.log(3) * episode.mask.sum() / 20)
    right = 50 * episode.targets
    assert task.loss(right, episode) < 1e-6
    assert task.score(right, episode) == {"token_error": 0, "sequence_error": 0}
    assert 0 < episode.extra.sum() < episode.mask.sum()
    behind = (episode.mask - episode.extra)[..., None]
    assert task.score(right * (1 - 2 * behind), episode)["token_error"] == 0
    first = jnp.zeros(episode.mask.shape).at[0].set(episode.extra[0])[..., None]
    errors = task.score(right * (1 - 2 * first), episode)
    assert errors["sequence_error"] == pytest.approx(1 / 20)
    assert errors["token_error"] == pytest.approx(episode.extra[0].sum() / episode.extra.sum())


def test_words_and_text():
    task, episode = short("stack-manipulation")
    number = int(np.argmax(episode.inputs[:, :, 2:5].sum(axis=(1, 2))))  # the most actions
    single = jax.tree.map(jnp.asarray, one(episode, number))
    ((symbols, answer),) = strings(task, one(episode, number))
    words = task.words(single.targets, single)
    assert {len(part) for part in words} == {task.time_steps}
    assert [word for word in words.inputs if word] == symbols
    assert list(words.outputs[len(symbols) :][: len(answer)]) == answer == [
        word for word in words.targets if word
    ]  # fmt: skip
    shown = task.render(single.targets, single).splitlines()
    assert [line.split()[-len(answer) :] for line in shown[1:]] == [answer, answer]
    assert shown[0].split()[1:] == symbols


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"language": "reverse-strings"}, "did you mean reverse-string"),
        ({"min_length": 0}, "min_length=0: must be at least 1"),
        ({"min_length": 50}, "min_length=50 is above max_length=40"),
        ({"max_length": 2**30}, "max_length=1073741824: sequences would have"),
    ],
)
def test_refused_settings(settings, message, without_type_checks):
    with pytest.raises(ValueError, match=re.escape(message)):
        Chomsky(**settings)


@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("--language=reverse", ["--language", "reverse-string", *NAMES]),
        ("--min_length=0", ["min_length=0"]),
        ("--max_length=0", ["max_length=0"]),
    ],
)
def test_refused_flags(flag, parts, tmp_path, capsys):
    assert main(["train", "chomsky", f"--run_dir={tmp_path / 'run'}", flag]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert all(part in error for part in parts)
    assert not any(tmp_path.iterdir())


@pytest.mark.second_step
def test_train_and_eval(tmp_path, capsys):
    """A model that was trained on short strings is measured on longer ones."""
    run_dir = tmp_path / "run"
    sizes = ["--hidden_size=8", "--memory_size=4", "--word_size=4", "--batch_size=4"]
    flags = [*sizes, "--max_length=3", "--num_training_iterations=4", "--report_interval=2"]
    assert main(["train", "chomsky", *flags, f"--run_dir={run_dir}"]) == 0
    assert "nats per sequence" in capsys.readouterr().out
    sweep = ["--sweep=length=2,9", "--num_episodes=4"]
    assert main(["eval", str(run_dir), *sweep]) == 0
    out = capsys.readouterr().out
    assert "token error" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["2", "9"]
    assert main(["eval", str(run_dir), "--sweep=length=2,0", "--num_episodes=4"]) == 2
    assert "min_length=0" in capsys.readouterr().err
    assert main(["eval", str(run_dir), "--language=bucket-sort", "--num_episodes=4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
