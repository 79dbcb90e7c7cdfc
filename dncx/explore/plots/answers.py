"""A figure of a story: the sentences from which each answer is read."""

import math

import numpy as np

from dncx.errors import UsageError
from dncx.explore.origins import all_heads, by_sentence, sentences
from dncx.explore.plots import panels
from dncx.explore.plots.style import READ, Drawing, Width, new, ramp, styled
from dncx.explore.record import EpisodeTrace

ROW = 0.15  # inches for a sentence
HIGHEST = 8.5  # inches for all sentences, so that the figure fits a page


@styled()
def answer_origins(episode: EpisodeTrace, *, width: Width = "double") -> Drawing:
    """The share of each sentence in what is read when an answer is given: one column per answer.

    A column sums to 1, except for shares below 0 and the steps after the last sentence, which are
    not shown. Its label is the model's answer, in parentheses if it is wrong.

    Args:
      episode: an episode of a task in words whose answers are marked in `mask`, such as bAbI.
      width: width of the figure.

    Raises:
      UsageError: if the episode has no words or no mask.
    """
    story = sentences(episode)
    if episode.mask is None or not episode.mask.any() or episode.words is None:
        raise UsageError("this trace has no mask, so its answers are not known")
    steps = np.flatnonzero(episode.mask > 0)
    shares = by_sentence(all_heads(episode, steps.tolist()), story)
    height = min(ROW * len(story), HIGHEST)
    figure = new(width, height + 0.8)
    axes = figure.subplots()
    image = panels.heat(axes, np.clip(shares, 0, 1).T, ramp(READ), "")
    each = math.ceil(ROW * len(story) / height)  # in a long story, not every row has room for text
    named = range(0, len(story), each)
    axes.set_yticks(named, [story[row].text for row in named], fontsize=6)
    given, wanted = episode.words.outputs, episode.words.targets
    names = [given[s] if given[s] == wanted[s] else f"({given[s]})" for s in steps]
    axes.set_xticks(range(len(steps)), names, fontsize=6, rotation=45, ha="left")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    panels.share_bar(image, axes, "share")
    return figure
