"""The pictures of honest_score.py: reported losses in orange, those on fresh rows in blue."""

import matplotlib
import numpy as np

REPORTED, FRESH = "#e0883a", "#4a90d9"


def _figure(width, height, columns, **shared):
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained", **shared)


def draw_scores(numbers, path):
    """What each search reports, and what fresh rows say; a bar is one standard error of their difference, both ways."""
    truths = list(dict.fromkeys(row["data"] for row in numbers["rows"]))
    figure, (axes,) = _figure(9, 3.4, len(truths), sharey=True)
    for ax, truth in zip(axes, truths, strict=True):
        rows = [row for row in numbers["rows"] if row["data"] == truth][::-1]
        reported, fresh, error = (np.array([row[key] for row in rows]) for key in ("reported", "fresh", "standard error"))
        ax.hlines(range(len(rows)), reported, fresh, color="0.75", zorder=0)
        ax.errorbar(reported, range(len(rows)), xerr=error, fmt="o", color=REPORTED, capsize=2, label="reported")
        ax.plot(fresh, range(len(rows)), "o", color=FRESH, label="on fresh rows")
        ax.set(title=truth, xlabel="log loss", yticks=range(len(rows)), yticklabels=[row["search"] for row in rows])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)


def draw_course(numbers, path):
    """A descent step by step: the loss on the rows that choose, and that on fresh rows; the best step of each is marked."""
    figure, (axes,) = _figure(9, 3.4, len(numbers["course"]), sharey=True)
    for ax, (name, lines) in zip(axes, numbers["course"].items(), strict=True):
        for key, color, label in (("reported", REPORTED, "the rows that choose"), ("fresh", FRESH, "fresh rows")):
            ax.plot(lines["steps"], lines[key], color=color, label=label)
            best = int(np.argmin(lines[key]))
            ax.plot(lines["steps"][best], lines[key][best], "o", color=color)
        ax.set(title=name, xlabel="steps on 50 penalties")
    axes[0].set_ylabel("log loss")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)


def draw_leak(numbers, path):
    """Evidence of training rows and of all rows, by the number of columns of noise."""
    names = list(dict.fromkeys(row["evidence of"] for row in numbers["leak"]))
    figure, (axes,) = _figure(9, 3.2, len(names), sharey=True)
    for ax, name in zip(axes, names, strict=True):
        rows = [row for row in numbers["leak"] if row["evidence of"] == name]
        for key, color, label in (("reported", REPORTED, "reported"), ("fresh", FRESH, "on fresh rows")):
            ax.plot([row["features"] for row in rows], [row[key] for row in rows], "o-", color=color, label=label)
        ax.axhline(np.log(2), color="gray", linewidth=1, linestyle=":")
        ax.set(title=f"evidence of {name}", xscale="log", xlabel="columns of noise")
    axes[0].set_ylabel("log loss")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)


PICTURES = {"scores": draw_scores, "course": draw_course, "leak": draw_leak}
