"""From which sentences a trained network reads its answers, compared with bAbI's supporting facts.

python docs/results/how_it_answers.py --data_dir=tasks_1-20_v1-2.tar.gz

Reads stories of every task's test file, finds the share of each sentence in what is read at the
first word of an answer, and compares the sentence with the largest share to the sentences that
support the answer according to the data. Prints a table, writes how_it_answers.json next to this
script, and draws one story of each of three tasks. Needs matplotlib (the plots extra).
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dncx import explore
from dncx.explore import plots
from dncx.explore.origins import all_heads, by_sentence, sentences
from dncx.runs.directory import load_run
from dncx.tasks.babi.buckets import pad
from dncx.tasks.babi.files import NAMES, read_files
from dncx.tasks.babi.stories import parse, read_lines
from dncx.tasks.babi.task import episode_of
from dncx.tasks.base import Episode
from dncx.text import table

HERE = Path(__file__).parent
DRAWN = (1, 5, 8)  # the tasks with a figure
STORIES = 25


def traced(network, task, stories):
    """The traces of the stories, in words."""
    width = max(story.length for story in stories)
    batch = episode_of(pad(stories, width), task.input_size)
    found = explore.trace(
        network,
        batch.inputs,
        mask=batch.mask,
        lengths=np.array([story.length for story in stories]),
    )
    for number, episode in enumerate(found.episodes):
        steps = episode.num_steps
        one = [x[number : number + 1, :steps] for x in (batch.inputs, batch.targets, batch.mask)]
        words = task.words(episode.outputs[None], Episode(*one))
        yield dataclasses.replace(episode, words=words)


class Answer(NamedTuple):
    """A question of a story, and what was read when it was answered."""

    right: bool
    from_fact: bool  # the sentence with the largest share supports the answer
    share: float  # of all sentences that support it
    chance: float  # that a sentence drawn at random from those so far supports it


def of_a_task(network, task, file):
    """The answers of some stories of a file, evenly spread over their lengths, and their traces."""
    lines = read_lines(file.content, file.name)
    stories = parse(file.content, file.name, file.task)
    order = sorted(range(len(stories)), key=lambda story: stories[story].length)
    chosen = order[:: max(1, len(stories) // STORIES)]
    episodes = list(traced(network, task, [stories[story] for story in chosen]))
    answers = [
        answer
        for story, episode in zip(chosen, episodes, strict=True)
        for answer in of_a_story(episode, lines[story])
    ]
    return answers, episodes


def of_a_story(episode, lines):
    """The answers to the questions for which the data name supporting facts."""
    parts, words = sentences(episode), episode.words
    asked = [place for place, line in enumerate(lines) if line.answers and line.facts]
    steps = [parts[place].last + 1 for place in asked]
    for place, step, shares in zip(
        asked, steps, by_sentence(all_heads(episode, steps), parts), strict=True
    ):
        given = slice(step, step + len(lines[place].answers))
        facts = sorted({fact - 1 for fact in lines[place].facts})
        yield Answer(
            right=words.outputs[given] == words.targets[given],
            from_fact=int(shares.argmax()) in facts,
            share=float(shares[facts].sum()),
            chance=len(facts) / (place + 1),
        )


def mean(numbers):
    """The mean; None if there are no numbers."""
    return sum(numbers) / len(numbers) if numbers else None


def main() -> None:
    """Prints and writes the table, and draws the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--language", default="en-10k", help="folder of the data")
    parser.add_argument("--run", type=Path, default=Path("babi"))
    options = parser.parse_args()
    data_dir, language = options.data_dir.resolve(), options.language
    files = read_files(data_dir, language, range(1, 21), partial=True)
    tasks = tuple(sorted({file.task for file in files}))
    changes = {"data_dir": data_dir, "language": language, "tasks": tasks, "partial": True}
    task, network, _, _ = load_run(options.run, **changes)
    rows = []
    for file in files:
        if file.split != "test":
            continue
        number, (answers, episodes) = file.task, of_a_task(network, task, file)
        right = [answer for answer in answers if answer.right]
        rows.append(
            {
                "task": number,
                "answers": len(answers),
                "right": len(right),
                "from_fact": mean([answer.from_fact for answer in right]),
                "share_of_facts": mean([answer.share for answer in right]),
                "chance": mean([answer.chance for answer in right]),
            }
        )
        if number in DRAWN:
            picture = HERE / f"how_it_answers_{number}"
            plots.save(plots.answer_origins(episodes[len(episodes) // 2]), picture, ["svg"])
    (HERE / "how_it_answers.json").write_text(json.dumps(rows, indent=1) + "\n")
    header = ["task", "right", "largest share is a fact", "share of all facts", "chance"]
    print(table(header, [cells(row) for row in rows], left=1))


def cells(row):
    """A row of the table."""
    rates = [row[name] for name in ("from_fact", "share_of_facts", "chance")]
    shown = ["-" if rate is None else f"{rate:.0%}" for rate in rates]
    return [f"{row['task']} {NAMES[row['task'] - 1]}", f"{row['right']}/{row['answers']}", *shown]


if __name__ == "__main__":
    main()
