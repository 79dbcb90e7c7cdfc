"""Figures of the reports that have one."""

from pathlib import Path

from benchmarks.measure import Report


def draw(report: Report, folder: Path) -> None:
    """Writes NAME.svg if the report has a figure and matplotlib is installed."""
    drawing = {"step_time": _bars, "scaling": _lines, "memory": _memory}.get(report.name)
    if drawing is None:
        return
    try:
        import matplotlib
    except ImportError:
        print("no figure: matplotlib is not installed (pip install dncx[plots])")
        return
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = report.name  # the same report gives the same file
    from matplotlib import pyplot

    figure = drawing(pyplot, report)
    figure.savefig(folder / f"{report.name}.svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def _bars(pyplot, report: Report):
    return _grouped(pyplot, report, "size", "ms", "milliseconds")


def _memory(pyplot, report: Report):
    return _grouped(pyplot, report, "case", "MiB", "MiB of temporary memory")


def _grouped(pyplot, report: Report, group: str, value: str, label: str):
    groups = list(dict.fromkeys(row[group] for row in report.rows))
    series = list(dict.fromkeys(row["implementation"] for row in report.rows))
    figure, axes = pyplot.subplots(figsize=(6, 3))
    width = 0.8 / len(series)
    for i, name in enumerate(series):
        found = {row[group]: row[value] for row in report.rows if row["implementation"] == name}
        places = [
            k + (i - (len(series) - 1) / 2) * width for k, g in enumerate(groups) if g in found
        ]
        heights = [found[g] for g in groups if g in found]
        bars = axes.bar(places, heights, width * 0.92, label=name)
        labels = [f"{height:,.0f}" if height >= 100 else f"{height:.3g}" for height in heights]
        axes.bar_label(bars, labels, fontsize=6)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_yscale("log")
    axes.set_ylabel(f"{label} (log)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _lines(pyplot, report: Report):
    from matplotlib import ticker

    axes_names = list(dict.fromkeys(row["axis"] for row in report.rows))
    figure, panels = pyplot.subplots(
        1, len(axes_names), figsize=(2.4 * len(axes_names), 2.6), sharey=True, squeeze=False
    )
    for panel, axis, note in zip(panels[0], axes_names, report.notes, strict=True):
        rows = [row for row in report.rows if row["axis"] == axis]
        panel.loglog([row["value"] for row in rows], [row["ms"] for row in rows], "o-")
        panel.set_xlabel(f"{axis} (slope {note.split('exponent ')[1].split()[0]})")
        panel.set_xticks([row["value"] for row in rows], [str(row["value"]) for row in rows])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0][0].yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panels[0][0].yaxis.set_major_formatter("{x:g}")
    panels[0][0].set_ylabel("milliseconds")
    return figure
