"""The figures of the project: one palette, one layout, one function for each kind of chart; each returns a Figure."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .evaluate import calibration_error, truth_and_predicted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_INCHES = 30  # of a figure
INK, ACCENT, SECOND = "#22313f", "#2a6f97", "#e07a5f"


def new_figure(width: float = 7, height: float = 3.2) -> "Figure":
    "An empty figure (inches) with the layout that all figures share; of hundreds of labels it would take all memory."
    from matplotlib.figure import Figure

    return Figure(figsize=(min(width, MAX_INCHES), min(height, MAX_INCHES)), layout="constrained", dpi=90)


def _plain_text(text: object, most: int = 40) -> str:
    "A name as matplotlib shows it as it is: no `$` begins a formula, on one line, at most so many characters."
    line = "".join(char if char.isprintable() else " " for char in str(text))
    return (line if len(line) <= most else f"{line[: most - 1]}…").replace("$", r"\$")


def _legend_text(text: object) -> str:
    "The same for a legend, which leaves out names that begin with an underscore."
    return f" {_plain_text(text)}" if str(text).startswith("_") else _plain_text(text)


def _finish(axes: "Axes", title: str, *hidden: str) -> None:
    "Set the title and hide some of the four spines."
    axes.set_title(_plain_text(title, 200), loc="left", fontsize=10)
    for side in hidden:
        axes.spines[side].set_visible(False)


def plot_counts(counts: pd.Series | pd.DataFrame, title: str) -> "Figure":
    "Horizontal bars, one for each label; for a frame, one group of bars for each label."
    frame = counts.to_frame() if isinstance(counts, pd.Series) else counts
    figure = new_figure(height=0.9 + len(frame) * 0.19 * (1 + 0.6 * (frame.shape[1] - 1)))
    axes = figure.subplots()
    height = 0.8 / frame.shape[1]
    for i, (name, colour) in enumerate(zip(frame.columns, cycle((ACCENT, SECOND, INK)))):
        y = np.arange(len(frame)) + (i - (frame.shape[1] - 1) / 2) * height
        bars = axes.barh(y, frame[name].fillna(0), height, color=colour, label=_legend_text(name))
        axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=7, color=INK)
    axes.set_yticks(np.arange(len(frame)), [_plain_text(label) for label in frame.index], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.xaxis.set_visible(False)
    if frame.shape[1] > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside lower right", ncols=frame.shape[1])
    _finish(axes, title, "top", "right", "bottom")
    return figure


def plot_matrix(matrix: pd.DataFrame, title: str, diagonal: bool = False) -> "Figure":
    "A heat map of shares, labelled in whole per cents. The diagonal is left out unless asked for."
    figure = new_figure(1.6 + 0.34 * len(matrix), 1.3 + 0.27 * len(matrix))
    axes = figure.subplots()
    values = matrix.to_numpy(dtype=float).copy()
    if not diagonal:
        np.fill_diagonal(values, np.nan)
    axes.imshow(values, cmap="Blues", aspect="auto")
    axes.set_xticks(range(matrix.shape[1]), [_plain_text(name) for name in matrix.columns], rotation=90, fontsize=7)
    axes.set_yticks(range(len(matrix)), [_plain_text(name) for name in matrix.index], fontsize=7)
    limit = np.nanmax(values) / 2
    for row, column in zip(*np.where(values >= 0.01), strict=True):
        colour = "white" if values[row, column] > limit else INK
        axes.text(column, row, f"{values[row, column] * 100:.0f}", ha="center", va="center", fontsize=6, color=colour)
    _finish(axes, title)
    return figure


def plot_lengths(table: pd.DataFrame, title: str, bins: int = 30) -> "Figure":
    "A histogram for each column of `text_lengths`; the longest one per cent of the texts is cut off."
    figure = new_figure(height=2.4)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, table.shape[1])), table.columns, strict=True):
        limit = table[name].quantile(0.99)
        # a whole number of units in each bin, so that none looks full by chance
        edges = np.arange(0.5, limit + 1, max(1, round(limit / bins)))
        axes.hist(table[name], bins=edges, color=ACCENT)
        axes.axvline(table[name].median(), color=SECOND)
        axes.set_xlabel(f"{_plain_text(name)} (median {table[name].median():.0f}, 99 % ≤ {limit:.0f})", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_plain_text(title, 200), fontsize=10, x=0.01, ha="left")
    return figure


def plot_confusion(
    table: pd.DataFrame, labels: Sequence[str], title: str = "Of the texts with this label, per cent predicted as that"
) -> "Figure":
    "A confusion matrix as shares of each row. A text with several labels counts in the row of each."
    truth, predicted = (part.astype(float) for part in truth_and_predicted(table, labels))
    counts = pd.DataFrame(truth.T @ predicted, index=list(labels), columns=list(labels))
    shares = counts[truth.any(axis=0)].div(truth.sum(axis=0)[truth.any(axis=0)], axis=0)
    return plot_matrix(shares, title, diagonal=True)


def plot_f1(by_label: pd.DataFrame, title: str = "F1 of each emotion") -> "Figure":
    "One row a label, one dot a corpus; `by_label` comes from `label_scores`."
    wide = by_label.f1.unstack("corpus")
    wide = wide.sort_values(wide.columns[-1], kind="stable")
    figure = new_figure(height=0.9 + 0.28 * len(wide))
    axes = figure.subplots()
    for corpus, colour, marker in zip(wide.columns, cycle((SECOND, ACCENT, INK)), cycle("os|")):
        name = _legend_text(corpus)
        axes.plot(wide[corpus], np.arange(len(wide)), marker, color=colour, label=name, alpha=0.9, ms=7, mew=2)
    axes.set_yticks(np.arange(len(wide)), [_plain_text(label) for label in wide.index], fontsize=8)
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    _finish(axes, title, "top", "right", "left")
    return figure


def plot_calibration(curves: dict[str, pd.DataFrame], title: str = "Stated probability and observed share") -> "Figure":
    "A reliability diagram: probability across, observed share upwards, one line for each named `calibration_curve`."
    figure = new_figure(width=4.6, height=4.2)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", lw=1)
    for (name, curve), colour, marker in zip(curves.items(), cycle((SECOND, ACCENT, INK)), cycle("os|")):
        label = f"{_legend_text(name)}: error {calibration_error(curve):.3f}"
        axes.plot(curve.probability, curve.share, marker=marker, ms=4, color=colour, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated probability", ylabel="observed share")
    axes.legend(frameon=False, fontsize=8)
    _finish(axes, title, "top", "right")
    return figure


def plot_scores(table: pd.DataFrame, title: str, highlight: str = "") -> "Figure":
    "One bar a row: `score`, with `low` and `high` where known; rows whose name begins with `highlight` stand out."
    figure = new_figure(height=0.6 + 0.26 * len(table))
    axes = figure.subplots()
    names, y = list(map(str, table.index)), np.arange(len(table))
    colours = [ACCENT if name.startswith(highlight) else "0.75" for name in names]
    bars = axes.barh(y, table.score, color=colours, height=0.7)
    axes.set_yticks(y, [_plain_text(name, 60) for name in names])
    ends = table.score
    if "high" in table:
        ends = table.high.fillna(table.score)
        is_known = table[["low", "high"]].notna().all(axis=1).to_numpy()
        known = table[is_known]
        reach = [known.score - known.low, known.high - known.score]
        axes.errorbar(known.score, y[is_known], xerr=reach, fmt="none", ecolor="0.2", lw=1)
    for bar, score, end in zip(bars, table.score, ends, strict=True):
        axes.text(end + 0.008, bar.get_y() + bar.get_height() / 2, f"{score:.3f}", va="center", fontsize=7)
    axes.set(xlim=(0, min(1, 1.12 * ends.max())), xticks=[])
    axes.invert_yaxis()
    axes.tick_params(labelsize=8, length=0)
    _finish(axes, title, "top", "right", "bottom")
    return figure
