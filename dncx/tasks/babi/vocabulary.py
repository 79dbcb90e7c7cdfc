"""The 159 words and signs of bAbI's English tasks: the same whichever tasks are chosen."""

from importlib import resources

# Numbers are removed and capitals made small (the paper's Methods).
WORDS = tuple(resources.files("dncx.tasks.babi").joinpath("words.txt").read_text("ascii").split())
TOKENS = ("-", ".", "?", *WORDS)
INDEX = {token: index for index, token in enumerate(TOKENS)}
SLOT, STOP, QUESTION = range(3)  # "-": a word of the answer is wanted at this step
NOTHING = 255  # no word: steps after the end of a story, steps without an answer
