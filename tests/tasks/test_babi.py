"""bAbI, on small data made here in the form of the official files."""

import bz2
import dataclasses
import gzip
import io
import json
import lzma
import random
import shutil
import tarfile
import zipfile
from itertools import combinations
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import later
from safetensors.numpy import load_file

from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.runs import checkpoints
from dncx.runs.config import Changes
from dncx.runs.directory import load_run, nested, save_model
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import METRICS
from dncx.runs.trained import trained_progress
from dncx.tasks.babi.buckets import best_widths, pad, share_out
from dncx.tasks.babi.data import Gap
from dncx.tasks.babi.files import file_name
from dncx.tasks.babi.published import COLUMNS
from dncx.tasks.babi.report import results, table
from dncx.tasks.babi.scoring import Tally
from dncx.tasks.babi.settings import BabiSettings, Language
from dncx.tasks.babi.stories import Story, parse
from dncx.tasks.babi.task import Babi, Bucket, episode_of
from dncx.tasks.babi.vocabulary import INDEX, NOTHING, PAPER, TOKENS
from dncx.tasks.base import Bucketed, HasEvalSplits, Task
from dncx.training.resume import keeps_validation

ROOT = "tasks_1-20_v1-2"
EXAMPLE = (
    b"1 Mary got the milk there.\n"
    b"2 Mary took the apple.\n"
    b"3 What is Mary carrying? \tmilk,apple\t1 2\n"
    b"4 Is Mary in the park?\tNo\t1\n"
    b"1 John went to the park.\n"
    b"2 Where is John? \tpark\t1\n"
)


def make_file(task, seed):
    """1,000 questions: task 8 has stories of 1 to 5 questions, of up to 2 words; task 4 of one."""
    rng, lines, questions = np.random.RandomState(seed), [], 0
    people, things = ["Mary", "John", "Daniel", "Sandra"], ["milk", "apple", "football"]
    while questions < 1000:
        number = 0
        for _ in range(1 if task == 4 else min(rng.randint(1, 6), 1000 - questions)):
            who, what = rng.choice(people), rng.permutation(things)
            held = what[: 1 if task == 4 else rng.randint(1, 3)]
            for thing in held:
                number += 1
                lines.append(f"{number} {who} took the {thing}.")
            number += 1
            lines.append(f"{number} What is {who} carrying? \t{','.join(held)}\t{number - 1}")
            questions += 1
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The root folder of complete data for tasks 4 and 8, in `en`."""
    root = tmp_path_factory.mktemp("babi") / ROOT
    (root / "en").mkdir(parents=True)
    for task in (4, 8):
        for seed, split in enumerate(("train", "test")):
            (root / "en" / file_name(task, split)).write_bytes(make_file(task, seed))
    return root


def of(folder, **changes):
    return Babi(
        **{"data_dir": folder, "language": "en", "tasks": (4, 8), "num_buckets": 4, **changes}
    )


@pytest.fixture(scope="module")
def babi(folder):
    return of(folder)


@pytest.fixture(scope="module")
def episode():
    """The two stories of the example and an empty row, as a batch."""
    return episode_of(pad(parse(EXAMPLE, "example", 8), 26, rows=3), len(TOKENS))


def as_bytes(story):
    return story.tokens.tobytes() + b"|" + story.answers.tobytes()


def rows_of(episode):
    """The stories of a batch, back from its vectors."""
    for row in range(episode.mask.shape[0]):
        steps = int(episode.inputs[row].sum())
        tokens = np.asarray(episode.inputs[row, :steps]).argmax(-1).astype(np.int16)
        answers = np.asarray(episode.targets[row, :steps]).argmax(-1).astype(np.int16)
        answers = np.where(np.asarray(episode.mask[row, :steps]) > 0, answers, NOTHING)
        if steps:
            yield as_bytes(Story(0, tokens, answers.astype(np.int16)))


# The stories.


def test_vocabulary_is_fixed():
    """159 words and signs (the paper), sorted: weights of one run mean the same in another."""
    assert len(TOKENS) == len(INDEX) == 159
    assert list(TOKENS) == sorted(TOKENS)
    assert not any(any(sign.isdigit() or sign.isupper() for sign in word) for word in PAPER)


def test_vocabulary_does_not_depend_on_the_tasks(folder):
    only, both = of(folder, tasks=(8,)), of(folder)
    assert (only.input_size, only.output_size) == (both.input_size, both.output_size) == (159, 159)
    assert as_bytes(only.data.splits["test"][0]) == as_bytes(
        next(story for story in both.data.splits["test"] if story.task == 8)
    )


def test_one_story_as_arrays(episode):
    """Numbers go, capitals become small, and "-" holds the place of each word of an answer."""
    words = (
        "mary got the milk there . mary took the apple . what is mary carrying ? - - "
        "is mary in the park ? -"
    )
    inputs = np.zeros((26, 159), np.float32)
    for step, word in enumerate(words.split()):
        inputs[step, INDEX[word]] = 1
    targets, mask = np.zeros((26, 159), np.float32), np.zeros(26, np.float32)
    for step, word in ((16, "milk"), (17, "apple"), (24, "no")):
        targets[step, INDEX[word]] = mask[step] = 1
    np.testing.assert_array_equal(episode.inputs[0], inputs)
    np.testing.assert_array_equal(episode.targets[0], targets)
    np.testing.assert_array_equal(episode.mask[0], mask)
    np.testing.assert_array_equal(episode.extra.task, [8, 8, 0])
    question = np.zeros(26, np.int32)
    question[16:18], question[24] = 1, 2
    np.testing.assert_array_equal(episode.extra.question[0], question)


def test_a_new_story_begins_at_line_1(episode):
    assert np.asarray(episode.inputs[1]).argmax(-1)[0] == INDEX["john"]
    np.testing.assert_array_equal(episode.mask.sum(axis=1), [3, 1, 0])


GOOD = "1 Mary took the milk.\n2 What is Mary carrying?\tmilk\t1\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Mary took the milk.", "a line number"),
        ("3", "a line number"),
        ("3Mary took the milk.", "a line number"),
        ("4 Mary took the milk.", "number 4 after 2"),
        ("2 Mary took the milk.", "number 2 after 2"),
        ("0 Mary took the milk.", "number 0 after 2"),
        ("3 Mary took the milk", "must end with '.'"),
        ("3 What is Mary carrying?", "without an answer"),
        ("3 What is Mary carrying.\tmilk\t1", "must end with '?'"),
        ("3 What is Mary carrying?\tmilk\t1\t2", "tabs"),
        ("3 What is Mary carrying?\t\t1", "answer without words"),
        ("3 What is Mary carrying?\tmilk,\t1", "answer without words"),
        ("3 What is Mary carrying?\tgold\t1", '"gold"'),
        ("3 What is Mary carrying?\tmilk\tone", '"one"'),
        ("3 What is Mary carrying?\tmilk\t3", '"3"'),
        ("3 What is Mary carrying?\tmilk\t1 0", '"0"'),
        ("3 Mary took the gold.", '"gold"'),
        ("3 Mary took the caf\xe9.", '"caf\xe9"'),
        ("3 Mary took - milk.", '"-"'),
        ("3 Mary. took.", '"mary."'),
        ("3 .", "without words"),
    ],
)
def test_malformed_lines_are_named(line, message):
    with pytest.raises(ValueError, match=r"^en/qa8_train\.txt:3: ") as error:
        parse((GOOD + line + "\n" + GOOD).encode(), "en/qa8_train.txt", 8)
    assert message in str(error.value)


HARMLESS = {
    "Windows lines": lambda text: text.replace("\n", "\r\n"),
    "old Mac lines": lambda text: text.replace("\n", "\r"),
    "byte order mark": lambda text: "\ufeff" + text,
    "mark and Windows lines": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "blank lines at the end": lambda text: text + "\n \n\r\n\t\n",
    "blank lines at the beginning": lambda text: "\n\n" + text,
    "blank lines between stories": lambda text: text.replace("\n1 John", "\n\n1 John"),
    "no end of the last line": lambda text: text.rstrip("\n"),
    "blanks at the ends": lambda text: text.replace("\n", "  \n"),
    "tabs at the ends": lambda text: text.replace("\n", "\t\n"),
    "doubled blanks": lambda text: text.replace(" the ", "  the\u00a0"),
    "capitals": str.upper,
    "no facts": lambda text: text.replace("\t1 2\n", "\n").replace("\t1\n", "\n"),
    "empty facts": lambda text: text.replace("\t1 2\n", "\t\n"),
    "blanks in answers": lambda text: text.replace("milk,apple", " milk, apple "),
    "invisible characters": lambda text: text.replace("Mary", "\u200bMary"),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_means_the_same_is_read_the_same(change):
    plain = parse(EXAMPLE, "a", 8)
    changed = parse(change(EXAMPLE.decode()).encode(), "b", 8)
    assert [as_bytes(s) for s in plain] == [as_bytes(s) for s in changed]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (EXAMPLE.decode().encode("utf-16"), "UTF-16"),
        (EXAMPLE.replace(b"milk", b"caf\xe9"), "line 1: byte 0xE9"),
        (gzip.compress(EXAMPLE, mtime=0), "gzip"),
        (EXAMPLE + b"\0", "binary"),
    ],
)
def test_what_is_no_text_is_named(content, cause):
    with pytest.raises(ValueError, match=cause) as error:
        parse(content, "en/qa8_train.txt", 8)
    assert str(error.value).startswith("en/qa8_train.txt")


def test_line_numbers_are_those_of_the_file():
    with pytest.raises(ValueError, match=r"^x:9: "):
        parse(("\ufeff\n" + GOOD + "\r\n\n\r" + GOOD + "3 gold.\n").encode(), "x", 8)


def test_a_story_must_ask():
    with pytest.raises(ValueError, match=r"file.txt:3: story 2 "):
        parse((GOOD + "1 Mary took the milk.\n" + GOOD).encode(), "file.txt", 8)


def test_a_file_must_begin_with_line_1():
    with pytest.raises(ValueError, match=r"file.txt:1: number 2 after 0"):
        parse(b"2 Mary took the milk.\n", "file.txt", 8)


# The files.


def archive_of(folder, path, mode, **changes):
    """The folder as an archive, with members changed, added, or left out (None)."""
    contents = {f"en/{file.name}": file.read_bytes() for file in (folder / "en").iterdir()}
    with tarfile.open(path, f"w:{mode}") as archive:
        archive.addfile(tarfile.TarInfo("."))
        for name, content in {**contents, **changes}.items():
            member = tarfile.TarInfo(f"{ROOT}/{name}")
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            elif content is not None:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def zip_of(folder, path, compression=zipfile.ZIP_DEFLATED, prefix=f"{ROOT}/en/"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in (folder / "en").iterdir():
            archive.write(file, prefix + file.name)
        archive.writestr(f"__MACOSX/{ROOT}/en/._{file_name(4, 'test')}", b"metadata")
    return path


def changed_folder(folder, path, rename=lambda name: name, rewrite=lambda content: content):
    """The files under other names, or with another content."""
    path.mkdir(parents=True)
    for file in (folder / "en").iterdir():
        (path / rename(file.name)).write_bytes(rewrite(file.read_bytes()))
    return path


def short(name):
    task, _, split = name.split("_")
    return f"{task}_{split}"


FORMS = {
    "root": lambda data, place: data,
    "parent": lambda data, place: data.parent,
    "language": lambda data, place: data / "en",
    "no folder of the language": lambda data, place: changed_folder(data, place / "mine"),
    "short names": lambda data, place: changed_folder(data, place / "en", short),
    ".txt.gz": lambda data, place: changed_folder(
        data, place / "en", "{}.gz".format, gzip.compress
    ),
    ".txt.bz2": lambda data, place: changed_folder(
        data, place / "en", "{}.bz2".format, bz2.compress
    ),
    ".txt.xz": lambda data, place: changed_folder(
        data, place / "en", "{}.xz".format, lzma.compress
    ),
    "Windows lines and marks": lambda data, place: changed_folder(
        data, place / "en", rewrite=lambda c: b"\xef\xbb\xbf" + c.replace(b"\n", b"\r\n")
    ),
    ".tar": lambda data, place: archive_of(data, place / "babi.tar", ""),
    ".tar.gz": lambda data, place: archive_of(data, place / "babi.tar.gz", "gz"),
    ".tgz": lambda data, place: archive_of(data, place / "babi.tgz", "gz"),
    ".tar.bz2": lambda data, place: archive_of(data, place / "babi.tar.bz2", "bz2"),
    ".tar.xz": lambda data, place: archive_of(data, place / "babi.tar.xz", "xz"),
    "any name": lambda data, place: archive_of(data, place / "download", "gz"),
    ".tar of .gz": lambda data, place: archive_of(
        changed_folder(data, place / "all" / "en", "{}.gz".format, gzip.compress).parent,
        place / "babi.tar",
        "",
    ),
    ".zip": lambda data, place: zip_of(data, place / "babi.zip"),
    ".zip, stored": lambda data, place: zip_of(data, place / "babi.zip", zipfile.ZIP_STORED),
    ".zip of the folder": lambda data, place: zip_of(data, place / "babi.zip", prefix="en/"),
    ".zip of the files": lambda data, place: zip_of(data, place / "babi.zip", prefix=""),
    ".zip of Windows": lambda data, place: zip_of(data, place / "babi.zip", prefix="data\\en\\"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_data_are_the_same_in_all_forms(form, folder, babi, tmp_path):
    """Whatever way they are given; nothing is unpacked."""
    path = form(folder, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    other = of(path)
    assert sorted(tmp_path.rglob("*")) == before
    for split, stories in babi.data.splits.items():
        assert [as_bytes(s) for s in other.data.splits[split]] == [as_bytes(s) for s in stories]


def test_without_data_it_says_where_to_get_them():
    with pytest.raises(ValueError, match=r"--data_dir.* tasks_1-20_v1-2.tar.gz .*https://"):
        Babi()


def test_missing_files_are_listed_exactly(folder, tmp_path):
    missing = [file_name(2, "train"), file_name(2, "test"), file_name(8, "test")]
    path = archive_of(folder, tmp_path / "a.tar.gz", "gz", **{f"en/{missing[2]}": None})
    with pytest.raises(ValueError, match="--partial") as error:
        of(path, tasks=(2, 4, 8))
    listed = [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")]
    assert listed == missing


def test_a_partial_file_must_be_accepted(folder, tmp_path):
    """Its name says so; with --partial it is used, and the notes say what it lacks."""
    name = file_name(4, "train")
    part = name[:-4] + ".PARTIAL-2-of-1000-stories.txt"
    some = b"\n".join((folder / "en" / name).read_bytes().split(b"\n")[:4])
    path = archive_of(
        folder, tmp_path / "a.tar.xz", "xz", **{f"en/{name}": None, f"en/{part}": some}
    )
    with pytest.raises(ValueError, match=f"{name} \\(there is {part}\\)"):
        of(path)
    babi = of(path, partial=True, tasks=(4, 8))
    assert babi.notes == (f"incomplete: task 4, train: 2 of 1,000 questions ({name})",)
    assert len([s for s in babi.data.splits["train"] if s.task == 4]) == 1  # the other validates
    assert of(folder, partial=True).notes == ()


def test_a_short_file_is_incomplete(folder, tmp_path):
    """A file cut between stories can be parsed; it is known by its number of questions."""
    name = file_name(4, "test")
    cut = (folder / "en" / name).read_bytes().split(b"\n")[:100]
    path = archive_of(folder, tmp_path / "a.tar.gz", "gz", **{f"en/{name}": b"\n".join(cut)})
    with pytest.raises(ValueError, match="task 4, test: 50 of 1,000 questions"):
        of(path)


def broken(kind, folder, tmp_path):
    path, name = tmp_path / "a.tar.gz", f"en/{file_name(4, 'test')}"
    if kind == "truncated":
        path.write_bytes(archive_of(folder, path, "gz").read_bytes()[:-2000])
    elif kind == "truncated xz":
        path.write_bytes(archive_of(folder, path, "xz").read_bytes()[:-2000])
    elif kind == "truncated zip":
        path.write_bytes(zip_of(folder, path).read_bytes()[:-2000])
    elif kind == "changed zip":
        content = zip_of(folder, path, zipfile.ZIP_STORED).read_bytes()
        path.write_bytes(content.replace(b"milk", b"gold", 1))
    elif kind == "zip with a password":
        content = bytearray(zip_of(folder, path).read_bytes())
        for place in range(len(content) - 10):
            if content[place : place + 4] in (b"PK\1\2", b"PK\3\4"):
                content[place + (8 if content[place + 2] == 1 else 6)] |= 1
        path.write_bytes(content)
    elif kind == "7z":
        path.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    elif kind == "no archive":
        path.write_bytes(EXAMPLE * 30)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "link":
        member = tarfile.TarInfo(f"{ROOT}/{name}")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive_of(folder, path, "gz", **{name: member})
    elif kind == "huge":
        archive_of(folder, path, "gz", **{name: bytes(2**25 + 1)})
    elif kind == "huge in gz":
        archive_of(folder, path, "", **{name: None, f"{name}.gz": gzip.compress(bytes(2**25 + 1))})
    elif kind == "damaged gz":
        archive_of(folder, path, "", **{name: None, f"{name}.gz": gzip.compress(EXAMPLE)[:-9]})
    elif kind == "twice":
        archive_of(folder, path, "gz", **{f"../other/{name}": b""})
    elif kind == "twice, under two names":
        archive_of(folder, path, "gz", **{"en/qa4_test.txt": EXAMPLE})
    elif kind == "one file":
        path = folder / name
    elif kind == "other folder":
        (path / "hn").mkdir(parents=True)
    elif kind == "other language":
        path = changed_folder(folder, tmp_path / "hn")
    elif kind == "other languages":
        shutil.copytree(folder / "en", path / "hn-10k")
        shutil.copytree(folder / "en", path / "shuffled")
    elif kind == "several folders":
        shutil.copytree(folder / "en", path / "mine")
        shutil.copytree(folder / "en", path / "yours")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("none", "there is no such file"),
        ("truncated", "not intact|not an intact"),
        ("truncated xz", "not intact|not an intact"),
        ("truncated zip", "not an intact archive"),
        ("changed zip", "not intact .*CRC"),
        ("zip with a password", "password"),
        ("7z", "7z archives are not supported"),
        ("no archive", "not an intact archive"),
        ("empty", "not an intact archive"),
        ("link", "it is a link"),
        ("huge", "has 33554433 bytes"),
        ("huge in gz", "more than 33554432 bytes"),
        ("damaged gz", "qa4_two-arg-relations_test.txt.gz: this file is not intact"),
        ("twice", "two files for task 4, test"),
        ("twice, under two names", "two files for task 4, test: .*qa4_test.txt"),
        ("one file", "a single file of stories"),
        ("other folder", "there is no folder en in it"),
        ("other language", "--language=hn$"),
        ("other languages", "--language=hn-10k or --language=shuffled$"),
        ("several folders", "mine, yours"),
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_broken_data_give_one_clear_error(kind, message, partial, folder, tmp_path):
    """--partial accepts what is missing, not what is broken."""
    path = broken(kind, folder, tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        of(path, partial=partial)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": ()},
        {"tasks": (0,)},
        {"tasks": (21,)},
        {"tasks": (4, 4)},
        {"validation_share": 1.0},
        {"validation_share": -0.1},
        {"longest": -1},
        {"num_buckets": 0},
        {"validation_seed": -1},
        {"vocabulary_words": ("milk",)},
    ],
)
def test_settings_out_of_range(changes, folder):
    ((name, _),) = changes.items()
    with pytest.raises(ValueError, match=f"^{name}[=:]"):
        of(folder, **changes)


# Other folders and other words.

HINDI = {"milk": "doodh", "apple": "seb", "mary": "\u092e\u0930\u093f\u092f\u092e"}


def in_hindi(content):
    text = content.decode().lower()
    for word, other in HINDI.items():
        text = text.replace(word, other)
    return text.encode()


def split_in_two(folder, path):
    """A folder with validation: of each file for training the last tenth of the stories."""
    changed_folder(folder, path, short)
    for file in path.glob("*_train.txt"):
        stories = ["1 " + story for story in ("\n" + file.read_text()).split("\n1 ")[1:]]
        cut = len(stories) * 9 // 10
        file.write_text("\n".join(stories[:cut]) + "\n")
        valid = file.with_name(file.name.replace("train", "valid"))
        valid.write_text("\n".join(stories[cut:]))
    return path


@pytest.mark.parametrize("language", get_args(Language))
def test_every_folder_of_the_official_data_is_read(language, folder, babi, tmp_path):
    """Its files by their own names, its validation set, its words, its number of questions."""
    path = tmp_path / ROOT / language
    if "valid" in language:
        split_in_two(folder, path)
    else:
        changed_folder(folder, path, rewrite=bytes if language[:2] == "en" else in_hindi)
    words = "paper" if language[:2] == "en" else "data"
    other = of(tmp_path, language=language, vocabulary=words, partial=language.endswith("-10k"))
    assert len(other.notes) == (2 if language.endswith("-10k") else 0)  # tasks with 1,000 questions
    same = {split: len(stories) for split, stories in babi.data.splits.items()}
    found = {split: len(stories) for split, stories in other.data.splits.items()}
    assert found["test"] == same["test"]
    assert found["train"] + found["validation"] == same["train"] + same["validation"]
    in_files = parse(next(path.glob("qa4_*test.txt")).read_bytes(), "", 4, index_of(other))
    tests = [s for s in other.data.splits["test"] if s.task == 4]
    assert [as_bytes(s) for s in tests] == [as_bytes(s) for s in in_files]
    if "valid" in language:
        valid = (path / "qa8_valid.txt").read_bytes()
        assert [as_bytes(s) for s in other.data.splits["validation"] if s.task == 8] == [
            as_bytes(s) for s in parse(valid, "", 8)
        ]
        with pytest.raises(ValueError, match=r"^validation_share="):
            of(tmp_path, language=language, partial=True, validation_share=0.1)


def index_of(task):
    return {token: index for index, token in enumerate(task.tokens)}


def test_missing_files_for_validation_are_named(folder, tmp_path):
    path = split_in_two(folder, tmp_path / "en-valid")
    (path / "qa8_valid.txt").unlink()
    with pytest.raises(ValueError, match=r"\n  qa8_valid\.txt\n"):
        of(path, language="en-valid")


@pytest.fixture(scope="module")
def hindi(folder, tmp_path_factory):
    return changed_folder(folder, tmp_path_factory.mktemp("data") / "hn", rewrite=in_hindi)


def test_the_vocabulary_of_the_data(hindi, babi):
    with pytest.raises(ValueError, match="--vocabulary=data"):
        of(hindi, language="hn")
    task = of(hindi, language="hn", vocabulary="data")
    assert list(task.vocabulary_words) == sorted(set(task.vocabulary_words))
    assert set(HINDI.values()) <= set(task.vocabulary_words)
    assert not {"milk", "garden"} & set(task.vocabulary_words)
    assert task.input_size == task.output_size == 3 + len(task.vocabulary_words) == len(task.tokens)
    batch = next(task.episodes("test", 4))
    assert batch.inputs.shape[-1] == batch.targets.shape[-1] == task.input_size
    assert float(task.loss(0 * batch.targets, batch)) == pytest.approx(
        float(batch.mask.sum()) * np.log(task.output_size) / 4, rel=1e-5
    )
    assert task.score(logits(batch), batch)["question_error"] == 0
    shown = task.words(logits(batch), batch)
    assert shown.targets == shown.outputs
    assert {"took", "what"} <= set(shown.inputs) <= {"", *task.tokens}
    assert task.buckets[0].tokens == task.tokens
    assert babi.vocabulary_words == ()


def test_given_words_are_the_vocabulary(hindi, folder):
    """As config.json gives them; other data may have fewer words, but no others."""
    words = ("extra", *of(hindi, language="hn", vocabulary="data").vocabulary_words)
    task = of(hindi, language="hn", vocabulary="data", vocabulary_words=words)
    assert task.vocabulary_words == words
    assert task.tokens[3] == "extra"
    with pytest.raises(ValueError, match='"mary" is not one of the'):
        of(folder, vocabulary="data", vocabulary_words=words)
    assert dataclasses.replace(task, tasks=(4,)).vocabulary_words == words


# Splits and buckets.


def test_splits_are_disjoint_and_complete(babi, folder):
    """A tenth of each task's training stories validates; all the test stories test."""
    for task in (4, 8):
        splits = {
            split: [as_bytes(s) for s in stories if s.task == task]
            for split, stories in babi.data.splits.items()
        }
        files = {
            split: [
                as_bytes(s)
                for s in parse((folder / "en" / file_name(task, split)).read_bytes(), "", task)
            ]
            for split in ("train", "test")
        }
        assert sorted(splits["train"] + splits["validation"]) == sorted(files["train"])
        assert len(splits["validation"]) == round(len(files["train"]) / 10)
        assert splits["test"] == files["test"]


def test_splits_are_the_same_every_time(babi, folder):
    def validation(babi):
        return [as_bytes(s) for s in babi.data.splits["validation"] if s.task == 8]

    assert validation(of(folder)) == validation(babi)
    assert validation(of(folder, tasks=(8,))) == validation(babi)
    assert validation(of(folder, validation_seed=1)) != validation(babi)
    assert validation(of(folder, validation_share=0.0)) == []


@pytest.mark.second_step
def test_long_stories_can_be_left_out_of_training(babi, folder):
    longest = 40
    short = of(folder, longest=longest)
    lengths = [story.length for story in babi.data.splits["train"]]
    kept = [length for length in lengths if length <= longest]
    assert [story.length for story in short.data.splits["train"]] == kept
    assert 0 < len(kept) < len(lengths)
    left_out = len(lengths) - len(kept)
    assert short.notes == (
        f"{left_out} training stories of more than 40 words are left out, {len(kept):,} are kept",
    )
    for split in ("validation", "test"):
        assert len(short.data.splits[split]) == len(babi.data.splits[split])
        assert sum(len(list(rows_of(e))) for e in short.episodes(split, 64)) == len(
            babi.data.splits[split]
        )
    assert max(bucket.stories.tokens.shape[1] for bucket in short.buckets) <= longest
    with pytest.raises(ValueError, match="no stories are left"):
        of(folder, longest=3)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_widths_leave_the_least_padding(count):
    """Against all choices of widths."""
    lengths = [3, 3, 3, 4, 7, 7, 8, 15, 30, 31]
    distinct = sorted(set(lengths))

    def steps(widths):
        return sum(min(w for w in widths if w >= length) for length in lengths)

    found = best_widths(lengths, count)
    assert len(found) == min(count, len(distinct))
    assert found == tuple(sorted(found))
    choices = combinations(distinct[:-1], len(found) - 1)
    assert steps(found) == min(steps((*choice, 31)) for choice in choices)


def test_buckets_hold_every_training_story_once(babi):
    assert isinstance(babi, Bucketed)
    assert isinstance(babi, HasEvalSplits)
    held = [
        as_bytes(Story(0, tokens[tokens != NOTHING], answers[tokens != NOTHING]))
        for bucket in babi.buckets
        for tokens, answers in zip(*map(np.asarray, bucket.stories[1:]), strict=True)
    ]
    assert sorted(held) == sorted(as_bytes(s) for s in babi.data.splits["train"])
    counts = [bucket.stories.task.shape[0] for bucket in babi.buckets]
    assert babi.shares == tuple(count / sum(counts) for count in counts)
    assert sum(babi.shares) == pytest.approx(1)


def test_padding_is_as_stated(babi, folder):
    steps = sum(bucket.stories.tokens.size for bucket in babi.buckets)
    empty = sum(int((bucket.stories.tokens == NOTHING).sum()) for bucket in babi.buckets)
    assert babi.padding == pytest.approx(empty / steps)
    assert babi.padding < of(folder, num_buckets=1).padding


def test_each_story_is_where_it_fits_most_closely(babi):
    for split in ("train", "validation", "test"):
        for bucket, stories in enumerate(share_out(babi.data.splits[split], babi.widths)):
            narrower = babi.widths[bucket - 1] if bucket else 0
            assert all(narrower < story.length <= babi.widths[bucket] for story in stories)


@pytest.mark.parametrize("split", ["validation", *later("train", "test")])
def test_episodes_yield_every_story_once(babi, split):
    """In batches of few shapes; what is left over of the last batch is empty and counts nothing."""
    seen, shapes = [], set()
    for episode in babi.episodes(split, 100):
        shapes.add(episode.inputs.shape)
        seen += rows_of(episode)
        empty = np.asarray(episode.extra.task) == 0
        assert not episode.mask[empty].any()
        assert not episode.inputs[empty].any()
    assert sorted(seen) == sorted(as_bytes(s) for s in babi.data.splits[split])
    assert shapes <= {(100, width, 159) for width in babi.widths}


sample = jax.jit(lambda bucket, key: bucket.sample(key, 20_000))


@pytest.fixture(scope="module")
def few():
    """A bucket of 10 stories, told apart by their task's number."""
    story = parse(GOOD.encode(), "", 1)[0]
    stories = [story._replace(task=number + 1) for number in range(10)]
    return Bucket(stories=jax.tree.map(jnp.asarray, pad(stories, 12)), vocabulary=TOKENS)


def test_sampling_is_uniform_over_stories(few):
    """Within five standard deviations of a tenth each."""
    drawn = np.bincount(sample(few, jax.random.key(0)).extra.task, minlength=11)
    assert drawn[0] == 0
    assert np.all(np.abs(drawn[1:] - 2000) < 5 * np.sqrt(20_000 * 0.1 * 0.9))


def draws(folder, mode):
    """How often each task and each story is drawn, of 20,000 draws; task 4 has more stories."""
    babi = of(folder, task_sampling=mode, num_buckets=2)
    tasks, stories = np.zeros(21), {}
    for bucket, share in zip(babi.buckets, babi.shares, strict=True):
        drawn = sample(bucket, jax.random.key(0))
        tasks += share * np.bincount(drawn.extra.task, minlength=21) / 20_000
        for task in (4, 8):
            held = int((np.asarray(bucket.stories.task) == task).sum())
            stories.setdefault(task, []).append(held)
    return tasks[[4, 8]], np.asarray([sum(stories[task]) for task in (4, 8)])


@pytest.mark.parametrize(
    ("mode", "power"),
    [
        ("mixed", 0.5),
        *later(("stories", 1), ("uniform", 0)),
    ],
)
def test_tasks_are_drawn_by_a_power_of_their_stories(mode, power, folder):
    found, counts = draws(folder, mode)
    assert counts[0] > 2 * counts[1]  # or the modes would not differ
    expected = counts**power / (counts**power).sum()
    np.testing.assert_allclose(found, expected, atol=5 * np.sqrt(0.25 / 20_000))


def test_stories_of_a_task_are_equally_likely(few):
    """Also where tasks are not: here the last story has half of the chances."""
    chances = jnp.asarray([1.0] * 9 + [9.0])
    drawn = np.bincount(
        sample(dataclasses.replace(few, chances=chances), jax.random.key(0)).extra.task,
        minlength=11,
    )
    expected = 20_000 * np.asarray(chances) / 18
    assert np.all(np.abs(drawn[1:] - expected) < 5 * np.sqrt(20_000 * 0.25))


def test_padding_is_least_for_what_is_drawn(folder):
    """Lengths that are drawn more often are padded less."""
    assert best_widths([5, 6, 20], 2) == best_widths([5, 6, 20], 2, [1.0] * 3) == (6, 20)
    assert best_widths([5, 6, 20], 2, [900.0, 1.0, 1.0]) == (5, 20)
    stories, uniform = (of(folder, task_sampling=mode) for mode in ("stories", "uniform"))
    by_task = [
        [s.length for s in stories.data.splits["train"] if s.task == task] for task in (4, 8)
    ]

    def padding(widths):
        padded = [[min(w for w in widths if w >= n) for n in lengths] for lengths in by_task]
        means = [np.mean(steps) for steps in (*padded, *by_task)]
        return 1 - (means[2] + means[3]) / (means[0] + means[1])

    assert uniform.padding == pytest.approx(padding(uniform.widths))
    assert uniform.padding <= padding(stories.widths) + 1e-9


def test_the_same_key_gives_the_same_batch(few):
    first, again, other = (sample(few, jax.random.key(seed)) for seed in (0, 0, 1))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, again))
    assert (first.extra.task != other.extra.task).any()


def test_a_bucket_is_an_argument_of_jit(few):
    """Its stories are no constants of the program, and it is a task."""
    assert isinstance(few, Task)
    assert len(jax.tree.leaves(few)) == 3
    program = jax.make_jaxpr(lambda bucket, key: bucket.sample(key, 2))(few, jax.random.key(0))
    assert all(np.size(constant) <= 1 for constant in program.consts)


# Scoring.


def logits(episode, **wrong):
    """Outputs that answer rightly, but with "yes" at the (row, step)s given as wrong."""
    outputs = np.array(episode.targets) * 5
    for row, step in wrong.get("at", ()):
        outputs[row, step] = 0
        outputs[row, step, INDEX["yes"]] = 9
    return jnp.asarray(outputs)


def test_right_answers(episode, babi):
    outputs = logits(episode)
    assert babi.score(outputs, episode) == {"question_error": 0, "word_error": 0}
    assert babi.tally(outputs, episode).wrong_questions.sum() == 0


@pytest.mark.parametrize(
    ("at", "questions", "words"),
    [
        ([(0, 16)], 1, 1),
        ([(0, 17)], 1, 1),
        ([(0, 16), (0, 17)], 1, 2),
        ([(0, 24)], 1, 1),
        ([(0, 17), (0, 24), (1, 10)], 3, 3),
        ([(0, 3), (0, 15), (0, 25), (1, 20), (2, 0)], 0, 0),
    ],
)
def test_a_question_is_right_only_if_all_its_words_are(at, questions, words, episode, babi):
    """And other steps do not count, nor do empty rows."""
    outputs = logits(episode, at=at)
    score = babi.score(outputs, episode)
    assert score["question_error"] == pytest.approx(questions / 3)
    assert score["word_error"] == pytest.approx(words / 4)


def test_tally_by_hand(babi):
    """Story 1 of task 8, story 2 of task 4: 2 questions of 3 words, and 1 of 1."""
    first, second = parse(EXAMPLE, "", 8)
    episode = episode_of(pad([first, second._replace(task=4)], 26, rows=3), len(TOKENS))
    tally = jax.jit(babi.tally)(logits(episode, at=[(0, 16), (0, 17)]), episode)
    twice = jax.tree.map(jnp.add, tally, tally)
    for counts, task_4, task_8 in zip(twice, (1, 0, 1, 0), (2, 1, 3, 2), strict=True):
        expected = np.zeros(20, np.int32)
        expected[3], expected[7] = 2 * task_4, 2 * task_8
        assert counts.dtype == np.int32
        np.testing.assert_array_equal(counts, expected)


def test_loss_counts_the_words_of_answers_alone(episode, babi):
    """Equal logits: log 159 nats a word, 4 words in 3 rows; other steps change nothing."""
    zeros = jnp.zeros_like(episode.targets)
    expected = 4 * np.log(159) / 3
    assert babi.loss(zeros, episode) == pytest.approx(expected, rel=1e-6)
    elsewhere = jnp.where(episode.mask[..., None] > 0, 0.0, jnp.arange(159, dtype=jnp.float32))
    assert babi.loss(elsewhere, episode) == pytest.approx(expected, rel=1e-6)


def test_the_auxiliary_loss_is_that_of_the_next_words(episode, babi, folder):
    """Equal logits cost log 159 nats for each word but the first of a story."""
    task = of(folder, auxiliary_loss=0.25)
    assert (task.input_size, task.output_size) == (159, 318)
    answers = logits(episode, at=[(0, 17)])
    equal = jnp.concatenate([answers, jnp.zeros_like(answers)], axis=-1)
    words = int(episode.inputs[:, 1:].any(axis=-1).sum())
    alone = float(babi.loss(answers, episode))
    expected = alone + 0.25 * words * np.log(159) / 3
    assert float(task.loss(equal, episode)) == pytest.approx(expected, rel=1e-6)
    next_words = jnp.roll(episode.inputs, -1, axis=1)
    perfect = jnp.concatenate([answers, 100 * next_words], axis=-1)
    assert float(task.loss(perfect, episode)) == pytest.approx(alone, rel=1e-6)


def test_the_auxiliary_loss_of_the_present_word(episode, babi, folder):
    """Equal logits cost log 159 nats for each word of a story."""
    task = of(folder, auxiliary_loss=0.25, auxiliary_word="present")
    assert {bucket.auxiliary_word for bucket in task.buckets} == {"present"}
    answers = logits(episode, at=[(0, 17)])
    alone = float(babi.loss(answers, episode))
    equal = jnp.concatenate([answers, jnp.zeros_like(answers)], axis=-1)
    expected = alone + 0.25 * int(episode.inputs.any(axis=-1).sum()) * np.log(159) / 3
    assert float(task.loss(equal, episode)) == pytest.approx(expected, rel=1e-6)
    perfect = jnp.concatenate([answers, 100 * episode.inputs], axis=-1)
    assert float(task.loss(perfect, episode)) == pytest.approx(alone, rel=1e-6)


def test_predictions_of_the_next_word_are_neither_scored_nor_shown(episode, babi, folder):
    task = of(folder, auxiliary_loss=0.25)
    answers = logits(episode, at=[(0, 17)])
    with_predictions = jnp.concatenate([answers, 100 + jnp.zeros_like(answers)], axis=-1)
    for part in ("score", "tally", "words", "render"):
        for outputs in (with_predictions, answers):  # in training; of a saved model
            found = getattr(task, part)(outputs, episode)
            expected = getattr(babi, part)(answers, episode)
            jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert task.loss(answers, episode) == babi.loss(answers, episode)
    assert {bucket.auxiliary_loss for bucket in task.buckets} == {0.25}


def test_a_saved_model_does_not_predict_the_next_word(folder, tmp_path, capsys):
    """The auxiliary outputs exist in training only; a run that begins from it draws new ones."""
    flags = [f"--data_dir={folder}", "--language=en", "--tasks=4,8", "--batch_size=2"]
    flags += ["--num_buckets=1", "--hidden_size=4", "--memory_size=3", "--report_interval=2"]
    flags += ["--word_size=4", "--num_training_iterations=2"]

    def train(name, *more):
        run = tmp_path / name
        assert main(["train", "babi", *flags, f"--run_dir={run}", *more]) == 0
        return run, load_file(run / "model.safetensors")

    first, model = train("first", "--auxiliary_loss=0.5")
    assert model["output_linear.kernel"].shape[-1] == model["output_linear.bias"].shape[-1] == 159
    _, network, config, _ = load_run(first)
    assert config.network.output_size == network.output_size == 159
    assert main(["eval", str(first)]) == 0

    still = [f"--initial_model={first}", "--learning_rate=0"]
    for name, more in {"with": "--auxiliary_loss=0.5", "without": "--auxiliary_loss=0"}.items():
        _, again = train(name, *still, more)
        assert again.keys() == model.keys()
        for parameter, array in model.items():
            np.testing.assert_array_equal(again[parameter], array)
    # A model of an earlier version, which kept all outputs; and one with others.
    for copies, fits in ((2, True), (3, False)):
        more = {
            n: np.concatenate([x] * copies, -1) if "output" in n else x for n, x in model.items()
        }
        save_model(first, nested(more), trained_progress(first))
        if fits:
            assert load_run(first).network.output_linear.kernel.shape[-1] == 159
        else:
            with pytest.raises(UsageError, match="does not fit"):
                load_run(first)


def test_a_run_of_a_version_without_a_setting_resumes(folder, tmp_path, capsys):
    """A setting that is missing in an old checkpoint has its default."""
    run = tmp_path / "run"
    assert quick(folder, run, "--checkpoint_interval=4") == 0
    (saved,) = [checkpoints.newest_intact(run / "checkpoints")[0]]
    config = saved.manifest.config
    settings = {n: v for n, v in config.task.settings.items() if n != "auxiliary_word"}
    old = dataclasses.replace(config, task=dataclasses.replace(config.task, settings=settings))
    assert Changes(old, config).free == Changes(old, config).fixed == []
    manifest = dataclasses.replace(saved.manifest, config=old)
    assert keeps_validation(saved._replace(manifest=manifest), config)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_the_weight_of_the_auxiliary_loss_is_checked(weight, folder):
    with pytest.raises(ValueError, match=f"auxiliary_loss={weight}"):
        of(folder, auxiliary_loss=weight)


def test_render(episode, babi):
    assert babi.render(logits(episode, at=[(0, 17)]), episode).splitlines() == [
        "task 8",
        "  mary got the milk there.",
        "  mary took the apple.",
        "  what is mary carrying? = milk,apple   WRONG: milk,yes",
        "  is mary in the park? = no",
    ]


def test_wrong_answers_come_with_the_facts_before_them(episode, babi):
    outputs = logits(episode, at=[(0, 17)])
    ((group, text),) = babi.wrong_answers(outputs, episode)
    assert group == "task 8"
    assert text.splitlines() == [
        "task 8",
        "  mary got the milk there.",
        "  mary took the apple.",
        "  what is mary carrying? = milk,apple   WRONG: milk,yes",
    ]
    assert not list(babi.wrong_answers(logits(episode), episode))


# The report.


def tally_of(**counts):
    arrays = [np.zeros(20, np.int32) for _ in range(4)]
    for task, (questions, wrong) in counts.items():
        arrays[0][int(task[1:]) - 1], arrays[1][int(task[1:]) - 1] = questions, wrong
    return Tally(*arrays)


GAP = Gap(3, "train", 5, 10, "qa3_train.txt")


def test_results_by_hand():
    """Mean of the tasks' errors, not of questions; a task fails above 5 %, not at 5 %."""
    found = results(
        tally_of(t3=(1000, 100), t4=(200, 10)), [Gap(3, "train", 5, 10, "qa3")], ["a note"]
    )
    assert [(t["task"], t["error"], t["complete"]) for t in found["tasks"]] == [
        (3, 10, False),
        (4, 5, True),
    ]
    assert (found["mean_error"], found["failed"], found["notes"]) == (7.5, 1, ["a note"])
    assert json.loads(json.dumps(found)).keys() == found.keys()
    with pytest.raises(ValueError, match="no question was asked"):
        results(tally_of())


def test_the_table_marks_incomplete_data():
    found = results(tally_of(t3=(1000, 100), t19=(200, 10)), [GAP], ["note"])
    lines = table(found).splitlines()
    assert lines[2].startswith(" 3 three-supporting-facts [incomplete]   10.0     100/1000  ")
    assert lines[3].startswith("19 path-finding                           5.0       10/200  ")
    assert lines[4].split()[:3] == ["mean", "7.5", "71.1"]  # the LSTM: (51.3 + 90.9) / 2
    assert "note" in lines
    assert len(lines) == 1 + 1 + 2 + 2 + 3  # and notes: the one given, the source, the mean


def test_table_of_all_tasks_has_the_printed_means():
    text = table(results(tally_of(**{f"t{n}": (1000, 51) for n in range(1, 21)})))
    mean, failed = text.splitlines()[22:24]
    assert mean.split() == ["mean", "5.1", *(column.mean for column in COLUMNS)]
    assert failed.split()[-5:] == ["20", *(column.failed for column in COLUMNS)]
    assert len({len(line) for line in text.splitlines()[1:24]}) == 1


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_published_cells_agree_with_the_printed_means(column):
    """Within the rounding of 20 cells and of the mean to a tenth."""
    errors = [column.error(task) for task in range(1, 21)]
    unknown = [task for task, error in enumerate(errors, 1) if error is None]
    assert unknown == {"NTM": [4, 5], "DNC2": [13, 14]}.get(column.name, [])
    if not unknown:
        assert np.mean(errors) == pytest.approx(float(column.mean.partition("±")[0]), abs=0.1)


def test_a_mean_without_all_cells_is_not_given():
    lines = table(results(tally_of(t1=(10, 1), t4=(10, 0)))).splitlines()
    assert lines[4].split() == ["mean", "5.0", "14.6", "-", "4.7", "8.3"]
    assert lines[5].split()[-5:] == ["1", "1", "-", "1", "1"]


def test_settings_need_no_data():
    """`--help` shows the defaults of the paper."""
    settings = BabiSettings()
    assert settings.tasks == tuple(range(1, 21))
    assert (settings.language, settings.vocabulary) == ("en-10k", "paper")


@pytest.mark.second_step
@pytest.mark.parametrize(
    ("preset", "model"),
    [
        ("nature-babi", "dnc"),
        ("nature-babi", "lstm"),
        ("babi", "dnc"),
        ("dnc-mds", "dnc"),
        ("adnc", "dnc"),
    ],
)
def test_the_tiny_twin_of_its_presets(preset, model, folder, tmp_path, capsys):
    """From the files to the table of errors: training, validation, and the best model measured."""
    flags = [
        f"--preset={preset}",
        f"--model={model}",
        f"--data_dir={folder}",
        "--language=en",
        "--tasks",
        "4",
        "8",
    ]
    flags += ["--num_buckets=2", "--hidden_size=8"]
    if model == "dnc":
        flags += ["--memory_size=5", "--word_size=4"]
    if preset == "babi":
        flags += ["--warmup_iterations=2"]
    flags += ["--num_training_iterations=6", "--report_interval=3", "--validation_interval=2"]
    run_dir = tmp_path / "run"
    assert main(["train", "babi", *flags, f"--run_dir={run_dir}", "--embedding_size=6"]) == 0
    lines = read_metrics(run_dir / "metrics.jsonl")
    errors = {x["iteration"]: x["validation_error"] for x in lines if "validation_error" in x}
    assert list(errors) == [2, 4, 6]
    validation = trained_progress(run_dir).validation
    assert validation.error == min(errors.values())
    assert errors[validation.iteration] == min(errors.values())
    kept = load_file(run_dir / "model.safetensors")
    assert kept["embedding.kernel"].shape == (159, 6)
    capsys.readouterr()
    assert main(["eval", str(run_dir), "--show_errors=3", f"--out={tmp_path / 'out.json'}"]) == 0
    printed = capsys.readouterr().out
    assert "two-arg-relations" in printed
    (result,) = json.loads((tmp_path / "out.json").read_text())
    assert main(["eval", str(run_dir), "--show_errors=3", "--sweep=memory_size=4,5"]) == 2
    assert "show_errors" in capsys.readouterr().err
    wrong = sum(task["wrong"] for task in result["results"]["tasks"])
    assert printed.count("WRONG") == len(result["wrong_answers"]) == min(3, wrong) > 0


def stories_of_places(rng):
    """Fifty stories in the words of the first task, made here."""
    people, places = (
        ("Mary", "John", "Sandra", "Daniel"),
        ("office", "garden", "kitchen", "hallway"),
    )
    for _ in range(50):
        where = {}
        for line in range(1, 16):
            if line % 3:
                person, place = rng.choice(people), rng.choice(places)
                where[person] = place
                yield f"{line} {person} went to the {place}."
            else:
                person = rng.choice(sorted(where))
                yield f"{line} Where is {person}?\t{where[person]}\t1"


@pytest.mark.second_step
def test_the_model_that_ships_answers(tmp_path, capsys):
    """Without its data it says what it needs; on new stories it finds where people are."""
    assert main(["eval", "babi"]) == 2
    assert "data_dir" in capsys.readouterr().err
    text = "\n".join(stories_of_places(random.Random(0))) + "\n"
    for split in ("train", "test"):
        (tmp_path / f"qa1_{split}.txt").write_text(text)
    out = tmp_path / "out.json"
    given = [f"--data_dir={tmp_path}", "--tasks=1", "--partial", f"--out={out}"]
    assert main(["eval", "babi", *given]) == 0
    ((result,),) = (x["results"]["tasks"] for x in json.loads(out.read_text()))
    assert result["questions"] == 250
    assert result["error"] < 10


QUICK = [
    "--language=en", "--tasks", "4", "--num_buckets=1", "--hidden_size=8", "--memory_size=5",
    "--word_size=4", "--validation_interval=2", "--num_training_iterations=8",
]  # fmt: skip


def quick(folder, run_dir, *more):
    return main(["train", "babi", f"--data_dir={folder}", *QUICK, f"--run_dir={run_dir}", *more])


def validated(run_dir):
    return [x["iteration"] for x in read_metrics(run_dir / "metrics.jsonl") if "loss" not in x]


@pytest.mark.second_step
def test_early_stopping(folder, tmp_path, capsys):
    """With a learning rate of 0 nothing becomes better: it stops after `patience` validations.

    The same command again finds nothing to do, with more patience it goes on.
    """
    flags = ["--learning_rate=0", "--patience=2", "--checkpoint_interval=5"]
    assert quick(folder, tmp_path / "run", *flags) == 0
    assert validated(tmp_path / "run") == [2, 4, 6]
    before = load_file(tmp_path / "run" / "model.safetensors")
    capsys.readouterr()
    assert quick(folder, tmp_path / "run", *flags) == 0
    assert "trained to iteration 6" in capsys.readouterr().out
    assert quick(folder, tmp_path / "run", *flags, "--patience=9") == 0
    assert validated(tmp_path / "run") == [2, 4, 6, 8]
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.second_step
def test_a_validated_run_resumes_with_its_best_model(folder, tmp_path):
    """Cut off after a checkpoint, the run ends in the model of an uninterrupted one."""
    flags = ["--checkpoint_interval=3", "--learning_rate=3e-2", "--momentum=0.9"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert quick(folder, whole, *flags) == 0
    assert quick(folder, cut, *flags, "--num_training_iterations=6") == 0
    assert quick(folder, cut, *flags) == 0
    best = [trained_progress(run).validation for run in (whole, cut)]
    assert best[0] == best[1]
    models = [(run / "model.safetensors").read_bytes() for run in (whole, cut)]
    assert models[0] == models[1]
    newest, _ = checkpoints.newest_intact(cut / "checkpoints")
    errors = [x["validation_error"] for x in read_metrics(cut / METRICS) if "validation_error" in x]
    score = newest.manifest.score
    assert (score.of, score.value) == ("validation error", errors[-1])
    # without validation it goes on from the last parameters, and keeps the last
    assert (
        quick(folder, cut, *flags, "--validation_interval=-1", "--num_training_iterations=10") == 0
    )
    assert trained_progress(cut).validation is None
    assert (cut / "model.safetensors").read_bytes() != models[1]


@pytest.mark.second_step
def test_a_run_with_parts_of_several_lengths_resumes_bit_for_bit(folder, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    flags = [f"--data_dir={folder}", "--language=en", "--tasks", "4", "8", "--num_buckets=2"]
    flags += ["--model=lstm", "--hidden_size=4", "--batch_size=4", "--gradient_accumulation=2"]
    flags += ["--task_sampling=mixed", "--checkpoint_interval=2"]

    def train(run_dir, iterations):
        more = [f"--run_dir={run_dir}", f"--num_training_iterations={iterations}"]
        return main(["train", "babi", *flags, *more])

    assert train(whole, 6) == train(cut, 4) == train(cut, 6) == 0
    models = [(run / "model.safetensors").read_bytes() for run in (whole, cut)]
    assert models[0] == models[1]


def test_without_stories_for_validation(folder, tmp_path, capsys):
    assert quick(folder, tmp_path / "run", "--validation_share=0") == 2
    assert "validation_interval: babi has no validation set" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_only_a_task_with_a_validation_set_is_validated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "copy", "--validation_interval=5"]) == 2
    assert "validation_interval: copy has no validation set" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.second_step
def test_a_run_keeps_its_vocabulary(hindi, folder, tmp_path, capsys):
    """config.json has the words; eval and resuming use them, and other words are refused."""
    run_dir, data = tmp_path / "run", shutil.copytree(hindi, tmp_path / "hn")
    flags = ["--language=hn", "--vocabulary=data", "--checkpoint_interval=2"]
    assert quick(data, run_dir, *flags, "--num_training_iterations=4") == 0
    config = json.loads((run_dir / "config.json").read_text())
    words = config["task"]["settings"]["vocabulary_words"]
    assert words == list(of(data, language="hn", vocabulary="data", tasks=(4,)).vocabulary_words)
    assert config["network"]["input_size"] == config["network"]["output_size"] == 3 + len(words)
    assert quick(data, run_dir, *flags, "--num_training_iterations=6") == 0
    assert trained_progress(run_dir).resumed == ()
    assert main(["eval", str(run_dir)]) == 0
    assert "two-arg-relations" in capsys.readouterr().out
    fewer = data / file_name(4, "test")
    fewer.write_bytes(fewer.read_bytes().replace(b"football", b"seb"))
    assert main(["eval", str(run_dir)]) == 0
    fewer.write_bytes(fewer.read_bytes().replace(b"seb", b"gend"))
    capsys.readouterr()
    assert main(["eval", str(run_dir)]) == 2
    assert f"{fewer.name}:" in capsys.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    assert quick(data, run_dir, *flags) == 2
    assert "gend" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == before


def test_words_that_are_not_in_the_vocabulary_are_refused_before_anything_is_written(
    hindi, tmp_path, capsys
):
    assert quick(hindi, tmp_path / "run", "--language=hn") == 2
    assert "--vocabulary=data" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
