"""The memory at work: traces of trained models, what they mean, figures, and the explorer page.

    trace = explore.trace(cell, inputs)     # or explore.trace_run("memory-reuse")
    trace.save("trace.npz")
    trace.page("memory.html")

In a notebook a trace shows itself. Figures are in `dncx.explore.plots` (the plots extra).
"""

from dncx.explore.archive import load as load
from dncx.explore.record import EpisodeTrace as EpisodeTrace
from dncx.explore.record import Trace as Trace
from dncx.explore.tracing import trace as trace
from dncx.explore.tracing import trace_run as trace_run
