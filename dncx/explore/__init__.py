"""The memory at work: traces of trained models, their decoding, figures, and the explorer page.

    trace = explore.trace(cell, inputs)     # or explore.trace_run("traversal")
    explore.save(trace, "trace.npz")
    explore.page(trace, "memory.html")

A notebook shows a trace as its page. Figures are in `dncx.explore.plots` (the plots extra).
"""

from dncx.explore.archive import load as load
from dncx.explore.archive import save as save
from dncx.explore.record import EpisodeTrace as EpisodeTrace
from dncx.explore.record import Trace as Trace
from dncx.explore.tracing import trace as trace
from dncx.explore.tracing import trace_run as trace_run
from dncx.explore.webpage import frame as _frame
from dncx.explore.webpage import page as page

# Set here, because the record of a trace does not depend on the page.
Trace._repr_html_ = _frame  # pyright: ignore[reportAttributeAccessIssue]
