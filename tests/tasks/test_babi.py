"""bAbI, on small data made here in the form of the official files."""

import io
import json
import tarfile
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from dncx.cli.main import main
from dncx.runs import checkpoints
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import METRICS
from dncx.runs.summary import trained_progress
from dncx.tasks.babi.buckets import best_widths, pad, share_out
from dncx.tasks.babi.data import Gap
from dncx.tasks.babi.files import NAMES
from dncx.tasks.babi.judge import Tally
from dncx.tasks.babi.published import COLUMNS
from dncx.tasks.babi.report import results, table
from dncx.tasks.babi.settings import BabiSettings
from dncx.tasks.babi.stories import Story, parse
from dncx.tasks.babi.task import Babi, Bucket, episode_of
from dncx.tasks.babi.vocabulary import INDEX, NOTHING, TOKENS, WORDS
from dncx.tasks.base import Bucketed, Examined, Task

ROOT = "tasks_1-20_v1-2"
EXAMPLE = (
    b"1 Mary got the milk there.\n"
    b"2 Mary took the apple.\n"
    b"3 What is Mary carrying? \tmilk,apple\t1 2\n"
    b"4 Is Mary in the park?\tNo\t1\n"
    b"1 John went to the park.\n"
    b"2 Where is John? \tpark\t1\n"
)


def file_name(task, split):
    return f"qa{task}_{NAMES[task - 1]}_{split}.txt"


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
    """The root folder of data that are whole for tasks 4 and 8, in `en`."""
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
    return episode_of(pad(parse(EXAMPLE, "example", 8), 26, rows=3))


def as_bytes(story):
    return story.tokens.tobytes() + b"|" + story.answers.tobytes()


def rows_of(episode):
    """The stories of a batch, back from its vectors."""
    for row in range(episode.mask.shape[0]):
        steps = int(episode.inputs[row].sum())
        tokens = np.asarray(episode.inputs[row, :steps]).argmax(-1).astype(np.uint8)
        answers = np.asarray(episode.targets[row, :steps]).argmax(-1).astype(np.uint8)
        answers = np.where(np.asarray(episode.mask[row, :steps]) > 0, answers, NOTHING)
        if steps:
            yield as_bytes(Story(0, tokens, answers.astype(np.uint8)))


# The stories.


def test_vocabulary_is_fixed():
    """159 words and signs (the paper), sorted: weights of one run mean the same in another."""
    assert len(TOKENS) == len(INDEX) == 159
    assert list(TOKENS) == sorted(TOKENS)
    assert not any(any(sign.isdigit() or sign.isupper() for sign in word) for word in WORDS)


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


def test_lines_may_end_as_on_windows():
    plain, windows = parse(EXAMPLE, "a", 8), parse(EXAMPLE.replace(b"\n", b"\r\n"), "a", 8)
    assert [as_bytes(s) for s in plain] == [as_bytes(s) for s in windows]


GOOD = "1 Mary took the milk.\n2 What is Mary carrying?\tmilk\t1\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Mary took the milk.", "not a line number"),
        ("", "not a line number"),
        ("3", "not a line number"),
        ("4 Mary took the milk.", "number 4 after 2"),
        ("2 Mary took the milk.", "number 2 after 2"),
        ("0 Mary took the milk.", "number 0 after 2"),
        ("3 Mary took the milk", "does not end with '.'"),
        ("3 What is Mary carrying?", "does not end with '.'"),
        ("3 What is Mary carrying.\tmilk\t1", "does not end with '?'"),
        ("3 What is Mary carrying?\tmilk", "with tabs between"),
        ("3 What is Mary carrying?\tmilk\t1\t2", "with tabs between"),
        ("3 What is Mary carrying?\t\t1", "'' is not one of the 156 words"),
        ("3 What is Mary carrying?\tmilk,\t1", "'' is not one of the 156 words"),
        ("3 What is Mary carrying?\tgold\t1", "'gold' is not one of the 156 words"),
        ("3 What is Mary carrying?\tmilk\t", "facts ''"),
        ("3 What is Mary carrying?\tmilk\tone", "facts 'one'"),
        ("3 What is Mary carrying?\tmilk\t3", "facts '3'"),
        ("3 What is Mary carrying?\tmilk\t0", "facts '0'"),
        ("3 Mary took the gold.", "'gold' is not one of the 156 words"),
        ("3 Mary took the caf\xe9.", "is not one of the 156 words"),
        ("3 Mary took - milk.", "'-' is not one of the 156 words"),
        ("3 Mary. took.", "'Mary.' is not one of the 156 words"),
        ("3 .", "no words"),
    ],
)
def test_malformed_lines_are_named(line, message):
    with pytest.raises(ValueError, match=r"en/qa8_train\.txt:3: ") as error:
        parse((GOOD + line + "\n" + GOOD).encode("latin-1"), "en/qa8_train.txt", 8)
    assert message in str(error.value)


def test_a_story_must_ask():
    with pytest.raises(ValueError, match=r"file.txt: story 2 asks nothing"):
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


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz", "root", "parent", "language"])
def test_archive_and_folder_are_the_same(form, folder, babi, tmp_path, monkeypatch):
    """Whatever way the data are given; nothing is unpacked."""
    paths = {"root": folder, "parent": folder.parent, "language": folder / "en"}
    if form.startswith("tar"):
        paths[form] = archive_of(folder, tmp_path / f"babi.{form}", form[4:])
    other = of(paths[form])
    assert list(tmp_path.iterdir()) == ([paths[form]] if form.startswith("tar") else [])
    for split, stories in babi.data.splits.items():
        assert [as_bytes(s) for s in other.data.splits[split]] == [as_bytes(s) for s in stories]


def test_without_data_it_says_where_to_get_them():
    with pytest.raises(
        ValueError, match=r"--data_dir the archive tasks_1-20_v1-2.tar.gz .*https://"
    ):
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
    assert babi.notes == (f"not whole: task 4, train: 2 of 1,000 questions ({name})",)
    assert len([s for s in babi.data.splits["train"] if s.task == 4]) == 1  # the other validates
    assert of(folder, partial=True).notes == ()


def test_a_short_file_is_not_whole(folder, tmp_path):
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
    elif kind == "twice":
        archive_of(folder, path, "gz", **{f"../other/{name}": b""})
    elif kind == "other folder":
        (path / "hn").mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("none", "there is no such file"),
        ("truncated", "not a whole archive"),
        ("truncated xz", "not a whole archive"),
        ("no archive", "not a whole archive"),
        ("empty", "not a whole archive"),
        ("link", "is not a plain file"),
        ("huge", "has 33554433 bytes"),
        ("twice", "is in it twice"),
        ("other folder", "there is no folder en in it"),
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
    ],
)
def test_settings_out_of_range(changes, folder):
    ((name, _),) = changes.items()
    with pytest.raises(ValueError, match=f"^{name}="):
        of(folder, **changes)


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
    assert isinstance(babi, Examined)
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


@pytest.mark.parametrize("split", ["train", "validation", "test"])
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
    return Bucket(stories=jax.tree.map(jnp.asarray, pad(stories, 12)))


def test_sampling_is_uniform_over_stories(few):
    """Within five standard deviations of a tenth each."""
    drawn = np.bincount(sample(few, jax.random.key(0)).extra.task, minlength=11)
    assert drawn[0] == 0
    assert np.all(np.abs(drawn[1:] - 2000) < 5 * np.sqrt(20_000 * 0.1 * 0.9))


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


# The judge.


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
    episode = episode_of(pad([first, second._replace(task=4)], 26, rows=3))
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


def test_render(episode, babi):
    assert babi.render(logits(episode, at=[(0, 17)]), episode).splitlines() == [
        "task 8",
        "  mary got the milk there.",
        "  mary took the apple.",
        "  what is mary carrying? = milk,apple   WRONG: milk,yes",
        "  is mary in the park? = no",
    ]


# The report.


def tally_of(**counts):
    arrays = [np.zeros(20, np.int32) for _ in range(4)]
    for task, (questions, wrong) in counts.items():
        arrays[0][int(task[1:]) - 1], arrays[1][int(task[1:]) - 1] = questions, wrong
    return Tally(*arrays)


def test_results_by_hand():
    """Mean of the tasks' errors, not of questions; a task fails above 5 %, not at 5 %."""
    found = results(tally_of(t3=(1000, 100), t4=(200, 10)), [Gap(3, "train", 5, 10)], ["a note"])
    assert [(t["task"], t["error"], t["whole"]) for t in found["tasks"]] == [
        (3, 10, False),
        (4, 5, True),
    ]
    assert (found["mean_error"], found["failed"], found["notes"]) == (7.5, 1, ["a note"])
    assert json.loads(json.dumps(found)).keys() == found.keys()
    with pytest.raises(ValueError, match="no question was asked"):
        results(tally_of())


def test_table_marks_what_is_not_whole():
    found = results(tally_of(t3=(1000, 100), t19=(200, 10)), [Gap(3, "train", 5, 10)], ["note"])
    lines = table(found).splitlines()
    assert lines[2].startswith(" 3 three-supporting-facts [not whole]   10.0     100/1000  ")
    assert lines[3].startswith("19 path-finding                          5.0       10/200  ")
    assert lines[4].split()[:3] == ["mean", "7.5", "71.1"]  # the LSTM: (51.3 + 90.9) / 2
    assert "note" in lines
    assert "of the same tasks only" in lines[-1]


def test_table_of_all_tasks_has_the_printed_means():
    text = table(results(tally_of(**{f"t{n}": (1000, 51) for n in range(1, 21)})))
    mean, failed = text.splitlines()[22:24]
    assert mean.split() == ["mean", "5.1", *(column.mean for column in COLUMNS)]
    assert failed.split()[-9:] == ["20", *(column.failed for column in COLUMNS)]
    assert len({len(line) for line in text.splitlines()[1:24]}) == 1


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: f"{c.name}{'-best' * c.best}")
def test_published_cells_agree_with_the_printed_means(column):
    """Within the rounding of 20 cells and of the mean to a tenth."""
    assert len(column.errors) == 20
    assert np.mean(column.errors) == pytest.approx(float(column.mean.partition("±")[0]), abs=0.1)
    if column.best and column.name.startswith("DNC"):
        assert sum(error > 5 for error in column.errors) == int(column.failed)


def test_published_headline():
    """The paper's abstract of the result: 3.8 % mean error, 2 failed tasks."""
    dnc2 = COLUMNS[-1]
    assert (dnc2.name, dnc2.best, dnc2.mean, dnc2.failed) == ("DNC2", True, "3.8", "2")


def test_settings_need_no_data():
    """`--help` shows the defaults of the paper."""
    settings = BabiSettings()
    assert settings.tasks == tuple(range(1, 21))
    assert (settings.language, settings.validation_share) == ("en-10k", 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dnc", "lstm"])
def test_the_tiny_twin_of_its_preset(model, folder, tmp_path, capsys):
    """From the files to the table of errors: training, validation, and the best model measured."""
    flags = [
        "--preset=nature-babi",
        f"--model={model}",
        f"--data_dir={folder}",
        "--language=en",
        "--tasks",
        "4",
        "8",
    ]
    flags += ["--num_buckets=2", "--hidden_size=8", "--memory_size=5", "--word_size=4"]
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
    assert main(["eval", str(run_dir)]) == 0
    assert "two-arg-relations" in capsys.readouterr().out


QUICK = [
    "--language=en", "--tasks", "4", "--num_buckets=1", "--hidden_size=8", "--memory_size=5",
    "--word_size=4", "--validation_interval=2", "--num_training_iterations=8",
]  # fmt: skip


def quick(folder, run_dir, *more):
    return main(["train", "babi", f"--data_dir={folder}", *QUICK, f"--run_dir={run_dir}", *more])


def validated(run_dir):
    return [x["iteration"] for x in read_metrics(run_dir / "metrics.jsonl") if "loss" not in x]


@pytest.mark.slow
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
    assert "is trained to iteration 6 already" in capsys.readouterr().out
    assert quick(folder, tmp_path / "run", *flags, "--patience=9") == 0
    assert validated(tmp_path / "run") == [2, 4, 6, 8]
    after = load_file(tmp_path / "run" / "model.safetensors")
    assert all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.slow
def test_a_validated_run_resumes_with_its_best_model(folder, tmp_path):
    """Cut off after a checkpoint, the run ends in the model of an uninterrupted one."""
    flags = ["--checkpoint_interval=3", "--learning_rate=3e-2", "--momentum=0.9"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert quick(folder, whole, *flags) == 0
    assert quick(folder, cut, *flags, "--num_training_iterations=6") == 0
    assert quick(folder, cut, *flags) == 0
    best = [json.loads((run / "config.json").read_text())["validation"] for run in (whole, cut)]
    assert best[0] == best[1]
    models = [(run / "model.safetensors").read_bytes() for run in (whole, cut)]
    assert models[0] == models[1]
    newest, _ = checkpoints.newest_intact(cut / "checkpoints")
    errors = [x["validation_error"] for x in read_metrics(cut / METRICS) if "validation_error" in x]
    assert newest.score == ("validation error", errors[-1])
    # without validation it goes on from the last parameters, and keeps the last
    assert (
        quick(folder, cut, *flags, "--validation_interval=-1", "--num_training_iterations=10") == 0
    )
    assert "validation" not in json.loads((cut / "config.json").read_text())
    assert (cut / "model.safetensors").read_bytes() != models[1]


def test_without_stories_for_validation(folder, tmp_path, capsys):
    assert quick(folder, tmp_path / "run", "--validation_share=0") == 2
    assert "validation_interval: babi has no validation set" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_only_a_task_with_a_validation_set_is_validated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "copy", "--validation_interval=5"]) == 2
    assert "validation_interval: copy has no validation set" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
