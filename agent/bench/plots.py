"""Plots of the report, as SVG text: quality against calls and tokens, fates of gold, reliability of the judge.

Works on finished runs alone; matplotlib is imported when a plot is drawn. Tested in tests/bench/test_report.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import groupby, zip_longest
from typing import Any

from branchwise.agent.bench.diagnose import BINS, FATES
from branchwise.agent.bench.runs import Run
from branchwise.agent.bench.tables import METRIC, OURS, Group, calls_of, fate_shares
from branchwise.stores.errors import InputError

COLOURS = {
    OURS: "#0b6b5b",
    "lattice": "#b4540a",
    "lattice-paper": "#d98d4f",
    "lattice++": "#e0b541",
    "tree-raw": "#8c6bb1",
    "rerank": "#2b6cb0",
    "rerank-fused": "#63a4de",
    "setwise": "#7f8c8d",
    "hybrid": "#444444",
}
FATE_COLOURS = ("#0b6b5b", "#e0b541", "#b4540a", "#c9c5bb")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "branchwise",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e3dc",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#8a8f96",
    "legend.frameon": False,
    "legend.fontsize": 8,
}
WIDTH, HEIGHT = 3.6, 2.7
"""Inches of one panel."""


def quality_curves(groups: Sequence[Group]) -> str:
    """A panel a group: mean nDCG@10 against the calls really used, a line a method, the hybrid as the floor."""
    return _panels(groups, lambda axes, group: _curves(axes, group, "judged_slates", "calls a query, really used"))


def token_curves(groups: Sequence[Group]) -> str:
    """The same against tokens in and out."""
    return _panels(groups, lambda axes, group: _curves(axes, group, "tokens", "thousand tokens a query"))


def fates_of_gold(groups: Sequence[Group]) -> str:
    """A panel a group: what became of the relevant documents at the largest budget, a bar a method."""
    return _panels(groups, _fate_bars)


def reliability_diagram(groups: Sequence[Group]) -> str:
    """A panel a group: how often a score meant gold, for leaves and inner nodes, over all that ours asked."""
    return _panels([group for group in groups if group.runs], _reliability)


def _panels(groups: Sequence[Group], draw: Callable[[Any, Group], None]) -> str:
    """One figure, a row of panels a collection, a panel a judge, as SVG that holds no outside reference."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("plots need matplotlib", hint="pip install 'branchwise[bench]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [list(here) for _, here in groupby(groups, key=lambda group: (group.dataset, group.part))] or [[]]
    columns = max(1, *map(len, lines))
    with matplotlib.rc_context(STYLE):
        size = (WIDTH * columns, HEIGHT * len(lines) + 0.5)
        figure, grid = pyplot.subplots(len(lines), columns, figsize=size, squeeze=False, layout="constrained")
        for row, here in zip(grid, lines, strict=True):
            for axes, group in zip_longest(row, here):
                if group is None:
                    axes.set_visible(False)
                else:
                    draw(axes, group)
                    axes.set_title(group.title.replace(", judge: ", "\n"), fontsize=8.5, loc="left")
        panels = [axes for row in grid for axes in row]
        _shared_legend(figure, panels)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def _shared_legend(figure: Any, panels: Sequence[Any]) -> None:
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(6, len(handles)))


def _curves(axes: Any, group: Group, key: str, label: str) -> None:
    for run in group.free:
        if run.spec.method in ("hybrid", "bm25"):
            dashes = (4, 2) if run.spec.method == "hybrid" else (1, 2)
            level = run.measured.mean[METRIC]
            axes.axhline(level, color="#777777", linewidth=1, dashes=dashes, label=run.spec.method)
    for name in group.methods:
        points = [
            (_spent(run, key), run.measured.mean[METRIC])
            for run in group.runs
            if run.spec.method == name and name not in group.ablations
        ]
        if points:
            points.sort()
            wide = 2.2 if name == OURS else 1.3
            colour = COLOURS.get(name, "#999999")
            axes.plot(*zip(*points, strict=True), "o-", color=colour, linewidth=wide, markersize=3.5, label=name)
    axes.set_xlabel(label)
    axes.set_ylabel(METRIC)
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)


def _spent(run: Run, key: str) -> float:
    if key == "tokens":
        return ((run.mean("input_tokens") or 0.0) + (run.mean("output_tokens") or 0.0)) / 1000
    return run.mean(key) or 0.0


def _fate_bars(axes: Any, group: Group) -> None:
    calls = group.budgets[-1] if group.budgets else None
    runs = [run for run in group.runs if calls_of(run) == calls and run.spec.method not in group.ablations]
    names = [run.spec.method for run in runs]
    left = [0.0] * len(runs)
    for fate, colour in zip(FATES, FATE_COLOURS, strict=True):
        shares = [fate_shares(run)[fate] for run in runs]
        axes.barh(names, shares, left=left, color=colour, label=fate, height=0.7)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of relevant documents, at {calls} calls")


def _reliability(axes: Any, group: Group) -> None:
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8)
    for kind, colour in (("leaf", "#0b6b5b"), ("inner", "#b4540a")):
        total = [[0, 0] for _ in range(BINS)]
        for run in group.runs:
            if run.spec.method != OURS:
                continue
            for line in run.lines:
                for row, (count, hits) in enumerate(line.reliability.get(kind, ())):
                    total[row][0] += count
                    total[row][1] += hits
        seen = [(row / (BINS - 1), hits / count, count) for row, (count, hits) in enumerate(total) if count]
        if seen:
            scores, shares, counts = zip(*seen, strict=True)
            axes.plot(scores, shares, "-", color=colour, linewidth=1.2, label=f"{kind} nodes")
            sizes = [8 + 60 * (count / max(counts)) ** 0.5 for count in counts]
            axes.scatter(scores, shares, s=sizes, color=colour, alpha=0.7, linewidths=0)
    axes.set_xlabel("the judge's score (larger dots: more often given)")
    axes.set_ylabel("share that held gold")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
