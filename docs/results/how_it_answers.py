"""From which sentences a trained network reads its answers, compared with bAbI's supporting facts.

python docs/results/how_it_answers.py --data_dir=tasks_1-20_v1-2.tar.gz

Reads stories of every task's test file, finds the share of each sentence in what is read at the
first word of an answer, and compares the sentence with the largest share to the sentences that
support the answer by the data. Prints a table, writes how_it_answers.json next to this script,
and draws one story of three tasks. Needs matplotlib (the plots extra).
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from dncx import explore
from dncx.explore import plots
from dncx.explore.origins import all_heads, by_sentence, sentences
from dncx.runs.directory import load_run
from dncx.tasks.babi.buckets import pad
from dncx.tasks.babi.files import NAMES, read_files
from dncx.tasks.babi.stories import parse, read_lines
from dncx.tasks.babi.task import episode_of
from dncx.text import table

HERE = Path(__file__).parent
DRAWN = (1, 2, 6)  # the tasks with a figure
STORIES = 25


def traced(network, task, stories):
    """The stories' traces, in words."""
    width = max(story.length for story in stories)
    batch = episode_of(pad(stories, width), task.input_size)
    found = explore.trace(
        network, batch.inputs, mask=batch.mask, lengths=[story.length for story in stories]
    )
    for number, episode in enumerate(found.episodes):
        one = [x[number : number + 1] for x in (batch.inputs, batch.targets, batch.mask)]
        kept = batch._replace(inputs=one[0], targets=one[1], mask=one[2])
        outputs = np.zeros((1, width, task.output_size), np.float32)
        outputs[0, : episode.num_steps] = episode.outputs
        said = task.words(outputs, kept)
        yield episode, type(said)(*(words[: episode.num_steps] for words in said))


def of_a_task(network, task, number, data_dir):
    """Counts of a task's answers, and the trace of its first story."""
    (file,) = (f for f in read_files(data_dir, task.language, [number], True) if f.split == "test")
    lines, stories = read_lines(file.content, file.name), parse(file.content, file.name, number)
    chosen = sorted(range(len(stories)), key=lambda i: stories[i].length)[
        :: max(1, len(stories) // STORIES)
    ]
    counts, first = [], None
    for story, (episode, words) in zip(
        chosen, traced(network, task, [stories[i] for i in chosen]), strict=True
    ):
        episode = dataclasses.replace(episode, words=words)
        first = first or episode
        parts = sentences(episode)
        asked = [place for place, line in enumerate(lines[story]) if line.answers and line.facts]
        steps = [parts[place].last + 1 for place in asked]
        found = by_sentence(all_heads(episode, steps), parts)
        for place, step, shares in zip(asked, steps, found, strict=True):
            line = lines[story][place]
            right = all(
                words.outputs[step + i] == words.targets[step + i] for i in range(len(line.answers))
            )
            facts = [fact - 1 for fact in line.facts]
            counts.append(
                (
                    right,
                    int(shares.argmax()) in facts,
                    shares[facts].sum(),
                    len(set(facts)) / (place + 1),
                )
            )
    return np.array(counts, float), first


def main() -> None:
    """Prints and writes the table, and draws the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=HERE / "babi")
    options = parser.parse_args()
    task, network, _ = load_run(options.run, data_dir=options.data_dir.resolve(), partial=True)
    rows = []
    for number in range(1, 21):
        counts, first = of_a_task(network, task, number, options.data_dir)
        right = counts[counts[:, 0] == 1]
        rows.append(
            {
                "task": number,
                "name": NAMES[number - 1],
                "answers": len(counts),
                "right": len(right),
                "top_is_fact": float(right[:, 1].mean()),
                "share_of_facts": float(right[:, 2].mean()),
                "chance": float(right[:, 3].mean()),
            }
        )
        if number in DRAWN:
            plots.save(plots.answer_origins(first), HERE / f"how_it_answers_{number}", ["svg"])
    (HERE / "how_it_answers.json").write_text(json.dumps(rows, indent=1) + "\n")
    header = ["task", "right", "largest share is a fact", "share of all facts", "chance"]
    print(
        table(
            header,
            [
                [f"{r['task']} {r['name']}", f"{r['right']}/{r['answers']}"]
                + [f"{r[name]:.0%}" for name in ("top_is_fact", "share_of_facts", "chance")]
                for r in rows
            ],
            left=1,
        )
    )


if __name__ == "__main__":
    main()
