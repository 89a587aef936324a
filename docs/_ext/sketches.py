"""``.. sketch:: dual_step``: a sketch for a page, drawn while the page is read; the directive's text is its caption.

A sketch is a function of this module that draws on a matplotlib figure. Backgrounds are transparent and colors of middle
lightness, so that one file serves the light and the dark theme.
"""

from pathlib import Path

import numpy as np
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from scipy.interpolate import RectBivariateSpline
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import scale

from sksid import HypergradientSearchCV, hypergradient

INK, TRAIN, VALIDATION, THIRD, FAINT = "#808996", "#4a90d9", "#e0883a", "#45a878", "#80899640"
STYLE = {
    "svg.hashsalt": "sksid",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


class Sketch(Directive):
    """The image with its caption below."""

    required_arguments = 1
    has_content = True
    option_spec = {"alt": directives.unchanged_required}

    def run(self):
        """Draw, and place the image."""
        name, env = self.arguments[0], self.state.document.settings.env
        self.state.document.settings.record_dependencies.add(__file__)
        path = Path(env.srcdir) / "_figures" / f"{name}.svg"
        path.parent.mkdir(exist_ok=True)
        with rc_context(STYLE):
            figure = Figure(layout="constrained")
            SKETCHES[name](figure)
            figure.savefig(path, transparent=True, metadata={"Date": None})
        image = nodes.image(uri=f"/_figures/{name}.svg", alt=self.options["alt"], classes=["dark-light"])
        caption = nodes.caption()
        messages = []
        for text in [" ".join(self.content)]:
            inline, messages = self.state.inline_text(text, self.lineno)
            caption += inline
        return [nodes.figure("", image, caption, align="center"), *messages]


# ---- the sketches -------------------------------------------------------------------------------------------------------


def pass_over_rows(figure):
    """Roles of the rows in five splits, blocks in the order of their visits, one row's way to the table and back."""
    figure.set_size_inches(6.4, 2.9)
    axes = _canvas(figure, (-1.6, 14.4), (-1.1, 8.5))
    roles = (np.arange(8) * 3 + 1) % 5
    for row, split in np.ndindex(8, 5):
        color = VALIDATION if roles[row] == split else TRAIN
        axes.add_patch(Rectangle((split, 7 - row), 0.9, 0.85, color=color, alpha=0.95 if row == 2 else 0.45, lw=0))
    for split in range(5):
        axes.text(split + 0.45, 8.15, f"{split + 1}", ha="center")
    axes.text(-0.25, 8.15, "split", ha="right")
    for block, turn in enumerate(("2nd", "4th", "1st", "3rd")):
        axes.plot([-0.2, -0.2], [6.05 - 2 * block, 7.8 - 2 * block], color=INK, lw=1)
        axes.text(-0.4, 6.9 - 2 * block, turn, ha="right", va="center")
    axes.text(0.0, -0.75, "training row", color=TRAIN)
    axes.text(3.0, -0.75, "validation row", color=VALIDATION)
    stations = "gather: outputs of all splits, and q", "solve: this row, in every split", "scatter: W and V of all splits"
    for y, text in zip((6.6, 4.1, 1.6), stations, strict=True):
        axes.text(10.6, y, text, ha="center", va="center")
    _arrow(axes, (5.1, 5.4), (7.0, 6.4))
    _arrow(axes, (10.6, 6.1), (10.6, 4.6))
    _arrow(axes, (10.6, 3.6), (10.6, 2.1))


def table_row(figure):
    """The sixteen numbers that one feature has with two classes, five splits and float32."""
    figure.set_size_inches(6.4, 1.25)
    axes = _canvas(figure, (-0.3, 16.3), (-0.9, 1.75))
    labels = [f"$W_{k}$" for k in range(1, 6)] + [f"$V_{k}$" for k in range(1, 6)] + ["$1/\\lambda$"] + [""] * 5
    colors = [TRAIN] * 5 + [THIRD] * 5 + [VALIDATION] + [FAINT] * 5
    for place, (label, color) in enumerate(zip(labels, colors, strict=True)):
        axes.add_patch(Rectangle((place + 0.04, 0), 0.92, 1, color=color, alpha=None if color == FAINT else 0.3, lw=0))
        axes.text(place + 0.5, 0.47, label, ha="center", va="center")
    for start, stop, text in ((0, 5, "coefficients"), (5, 10, "adjoint"), (11, 16, "padding")):
        axes.text((start + stop) / 2, 1.2, text, ha="center")
    axes.annotate("", (0, -0.25), (16, -0.25), arrowprops={"arrowstyle": "<->", "color": INK, "lw": 0.8})
    axes.text(8, -0.8, "16 numbers of 4 bytes: one cache line", ha="center")


def dual_step(figure):
    """The monotone function whose root is z, and Newton's way to it."""
    figure.set_size_inches(4.6, 2.9)
    axes = figure.add_subplot(
        xlim=(-3.5, 7.5), ylim=(-17, 9), xlabel="$z$", xticks=range(-2, 8, 2), yticks=(-15, -10, -5, 0, 5)
    )
    q, y, c = 12.0, 0.0, 12.0
    grid = np.linspace(-3.5, 7.5, 300)
    axes.plot(grid, _stationarity(grid, q, y, c)[0], color=TRAIN, lw=1.8)
    axes.axhline(0.0, color=INK, lw=0.8)
    point = 6.0
    for step in range(20):
        value, slope = _stationarity(point, q, y, c)
        following = point - value / slope
        if step < 3:
            axes.plot([point, following], [value, 0.0], color=VALIDATION, lw=1.1)
            axes.plot([point, point], [0.0, value], color=INK, lw=0.8, ls=":")
            axes.annotate(f"$z_{step}$", (point, 0.0), (-4, -12 if value > 0 else 5), textcoords="offset points")
        point = following
    axes.plot(point, 0.0, "o", ms=6, color=THIRD)
    axes.annotate("$z$, and $\\beta^+ = \\sigma(z) - y$", (point, 0.0), (8, -14), textcoords="offset points", color=THIRD)
    axes.text(-3.3, -4.0, "$z + q\\,(\\sigma(z) - y) - c$", color=TRAIN)


def _stationarity(z, q, y, c):
    sigma = 1.0 / (1.0 + np.exp(-z))
    return z + q * (sigma - y) - c, 1.0 + q * sigma * (1.0 - sigma)


def cross_fitting(figure):
    """Five parts of the rows, what each is in the five descents, and what becomes of these."""
    figure.set_size_inches(6.8, 3.0)
    axes = _canvas(figure, (-1.9, 14.6), (-1.9, 6.3))
    for part, descent in np.ndindex(5, 5):
        after = (part - descent) % 5
        color = VALIDATION if after == 0 else THIRD if after <= 2 else TRAIN
        axes.add_patch(Rectangle((descent, 4 - part), 0.9, 0.88, color=color, alpha=0.95 if after == 0 else 0.45, lw=0))
        if after == 0:
            axes.text(descent + 0.45, 4.42 - part, "judge", ha="center", va="center", fontsize=7, color="white")
    for k in range(5):
        axes.text(k + 0.45, 5.15, f"{k + 1}", ha="center")
        axes.text(-0.25, 4.42 - k, f"{k + 1}", ha="right", va="center")
    axes.text(2.45, 5.75, "descent", ha="center")
    axes.text(-1.0, 2.42, "part of the rows", ha="center", va="center", rotation=90)
    roles = (
        ("trains both inner splits", TRAIN),
        ("trains one of two inner splits, validates the other", THIRD),
        ("judges, and is not seen by the descent", VALIDATION),
    )
    for place, (text, color) in enumerate(roles):
        axes.text(0.0, -0.55 * (place + 1), text, color=color, va="center")
    stations = (
        "five descents, each without its judge",
        "the judges' mean loss\nchooses one number of steps",
        "log penalties: the mean of the five",
        "final fit on all rows",
    )
    for place, text in enumerate(stations):
        y = 4.6 - 1.35 * place
        axes.text(10.6, y, text, ha="center", va="center")
        if place:
            _arrow(axes, (10.6, y + (1.0 if place != 2 else 0.8)), (10.6, y + (0.5 if place == 1 else 0.3)))
    _arrow(axes, (5.2, 4.6), (6.6, 4.6))


def descent(figure):
    """The cross-validated loss over one penalty and over two: what a grid tries, and where a search goes."""
    figure.set_size_inches(6.4, 3.0)
    left, right = figure.subplots(1, 2)
    X, y = load_breast_cancer(return_X_y=True)
    X = scale(X)
    powers = np.linspace(-4, 4, 25)
    left.plot(powers, _losses(X, y, -np.log(10.0) * powers[:, None] * np.ones(30)), color=TRAIN, lw=1.8)
    grid = np.linspace(-4, 4, 10)
    values = _losses(X, y, -np.log(10.0) * grid[:, None] * np.ones(30))
    left.plot(grid, values, "o", ms=7, mfc="none", mew=1.4, color=INK, label="a grid of ten")
    steps = HypergradientSearchCV(LogisticRegression(C=1e-3), structure="shared", random_state=0).fit(X, y).cv_results_
    path = np.log10(np.asarray(steps["param_C"], dtype=float))
    left.plot(path, -steps["mean_test_score"], "o-", ms=4.5, lw=1, color=VALIDATION, label=f"a search, {path.size} steps")
    left.set(xlabel="log$_{10}$ C", ylabel="cross-validated log loss", ylim=(0.05, 0.5))
    left.legend(frameon=False, labelcolor=INK)

    random = np.random.default_rng(0)
    X = random.normal(size=(200, 60))
    outputs = 0.5 * X[:, :10].sum(axis=1) + 0.15 * X[:, 10:].sum(axis=1)
    y = (outputs + random.logistic(size=200) > 0).astype(int)
    blocks = np.repeat(np.eye(2), [10, 50], axis=0)
    powers, fine = np.linspace(-3, 2, 10), np.linspace(-3, 2, 60)
    points = -np.log(10.0) * np.stack(np.meshgrid(powers, powers), axis=-1).reshape(-1, 2)
    loss = _losses(X, y, points @ blocks.T).reshape(10, 10)
    loss = RectBivariateSpline(powers, powers, loss)(fine, fine)
    levels = loss.min() + np.geomspace(0.004, 0.6, 12)
    right.contour(fine, fine, loss, levels=levels, colors=TRAIN, linewidths=np.linspace(1.6, 0.5, 12))
    tried = np.linspace(-3, 2, 10)
    right.plot(*map(np.ravel, np.meshgrid(tried, tried)), "o", ms=2.5, color=INK, alpha=0.6)
    columns = {"a": slice(10), "b": slice(10, 60)}
    steps = HypergradientSearchCV(LogisticRegression(C=1e-2), structure=columns, random_state=0).fit(X, y).cv_results_
    places = [np.log10(np.asarray(steps[f"C_{name}"], dtype=float)) for name in "ab"]
    right.plot(*places, "o-", ms=4.5, lw=1.2, color=VALIDATION)
    right.set(
        xlabel="log$_{10}$ C of ten columns that matter",
        ylabel="log$_{10}$ C of fifty that hardly do",
        xlim=(-3.1, 2.1),
        ylim=(-3.1, 2.1),
    )


def _losses(X, y, log_penalties):
    splits = list(StratifiedKFold(5).split(X, y))
    return np.array([hypergradient(X, y, splits, log_penalties=row, solver="aid").value for row in log_penalties])


def choosing(figure):
    """Questions from the top, and the structure that each answer leads to."""
    figure.set_size_inches(6.0, 5.4)
    axes = _canvas(figure, (0, 12), (-0.6, 11.6))
    questions = (
        ("fewer than 100 rows, or fewer than\n30 outside of the largest class?", '"shared"', "one penalty"),
        (
            "columns of several kinds: words,\nnumbers, categories, platforms?",
            '"blocks", a dict, labels',
            "a penalty for each kind",
        ),
        (
            "do you know something of each\nfeature: a distance, a rank, a rate?",
            "a function, a matrix",
            "penalties that follow it",
        ),
        ("words, or spreads that mean\nsomething?", '"moments"', "penalties that follow frequency"),
        (
            "few features that matter among many,\nand less than some thousand rows?",
            '["moments", "evidence"]',
            "with early_stopping=True",
        ),
    )
    for place, (question, structure, meaning) in enumerate(questions):
        y = 10.6 - 2.05 * place
        axes.add_patch(FancyBboxPatch((0.2, y - 0.65), 5.9, 1.3, boxstyle="round,pad=0.12", fc="none", ec=TRAIN, lw=1.2))
        axes.text(3.15, y, question, ha="center", va="center", fontsize=9.5)
        axes.text(7.6, y + 0.25, structure, va="center", color=TRAIN, fontsize=10.5, family="monospace")
        axes.text(7.6, y - 0.35, meaning, va="center")
        _arrow(axes, (6.3, y), (7.45, y))
        axes.text(6.8, y + 0.2, "yes", ha="center", fontsize=8)
        _arrow(axes, (3.15, y - 0.8), (3.15, y - 1.3))
        axes.text(3.3, y - 1.08, "no", va="center", fontsize=8)
    axes.text(3.15, -0.05, '"auto"', ha="center", va="center", color=TRAIN, fontsize=12, family="monospace")
    axes.text(4.4, -0.05, "the default: from one penalty to one a feature,\nas far as that helps", va="center")


SKETCHES = {sketch.__name__: sketch for sketch in (pass_over_rows, table_row, dual_step, cross_fitting, descent, choosing)}


def _canvas(figure, x, y):
    axes = figure.add_subplot(xlim=x, ylim=y)
    axes.axis("off")
    return axes


def _arrow(axes, start, end):
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=INK, lw=1))


def setup(app):
    """Called by Sphinx."""
    app.add_directive("sketch", Sketch)
    return {"parallel_read_safe": True}
