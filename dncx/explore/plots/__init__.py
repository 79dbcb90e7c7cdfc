"""Figures for papers, from traces, runs and results. They need the plots extra.

    from dncx.explore import plots

    figure = plots.overview(trace[0])
    plots.save(figure, "figures/overview")  # .png, .svg, .pdf

Every function returns a matplotlib figure whose `width` is one or two columns of a paper. It does
not need pyplot, and a notebook displays it.
"""

try:
    import matplotlib as _  # noqa: F401
except ImportError as error:
    raise ImportError("figures need matplotlib: pip install 'dncx[plots]'") from error

from dncx.explore.plots.answers import answer_origins as answer_origins
from dncx.explore.plots.boards import boards as boards
from dncx.explore.plots.curves import learning_curves as learning_curves
from dncx.explore.plots.episodes import gates as gates
from dncx.explore.plots.episodes import memory as memory
from dncx.explore.plots.episodes import overview as overview
from dncx.explore.plots.episodes import usage as usage
from dncx.explore.plots.episodes import weightings as weightings
from dncx.explore.plots.links import link as link
from dncx.explore.plots.probes import planned_move as planned_move
from dncx.explore.plots.results import error_table as error_table
from dncx.explore.plots.results import evaluation as evaluation
from dncx.explore.plots.results import evaluation_heatmap as evaluation_heatmap
from dncx.explore.plots.style import save as save
from dncx.explore.plots.tasks import memory_reuse as memory_reuse
from dncx.explore.plots.tasks import traversal as traversal
