"""Measured numbers in prose: sentences whose numbers come from examples/benchmarks/results, for the README and for the site.

``.. measured::`` (results.py) is a table of all rows below, ``.. measured:: newsgroups everywhere`` one of some;
``|real sets|`` and the like stand for single numbers on any page. The README has the rows of ``SHORT``:

    python docs/_ext/measured.py

writes them anew; tests/test_measured.py fails where they are not those of the stored results.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "examples" / "benchmarks" / "results"
README = ROOT / "README.md"
HEAD = "what was measured", "sksid", "the others", "`examples/benchmarks/`"
SHORT = "everywhere", "newsgroups", "raw_text", "generalization", "blocks"
FEW = "no", "one", "two", "three", "four", "five"


def numbers(name):
    """What a benchmark has saved."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["numbers"]


def rows_of(name, key="rows"):
    """Records by their first entry."""
    found = numbers(name)
    return {next(iter(row.values())): row for row in (found[key] if isinstance(found, dict) else found)}


def _span(values):
    return f"{min(values):.1f}–{max(values):.1f}"


def _real():
    return rows_of("everywhere", "summary")["real"]


def _unseen():
    return rows_of("generalization", "summary")["other"]


# ---- the rows: what, sksid, the others ----------------------------------------------------------------------------------


def everywhere():
    """Two rows: against LogisticRegressionCV and against GridSearchCV."""
    real, sets = _real(), rows_of("everywhere")
    slower = real["LRCV slower"]
    seconds = sorted(float(row["seconds"]) for row in list(sets.values())[: real["number"]])
    yield (
        f"{real['number']} real sets, 49 to 60,000 rows: 5-fold search of one penalty and refit, against "
        "`LogisticRegressionCV` with 10 values of `C` at its default `tol`, the fastest of its solvers",
        f"{seconds[0]:.2f} to {seconds[-2]:.0f} s, MNIST {seconds[-1]:.0f} s",
        f"median {real['LRCV median']:.1f} times as long; less than 1 on {FEW[slower]} {'set' if slower == 1 else 'sets'} "
        f"(at least {real['LRCV least']:.2f})",
    )
    yield (
        "the same, against `GridSearchCV` with 10 values of `C`",
        "",
        f"median {real['grid median']:.1f} times, at least {real['grid least']:.2f}",
    )


def newsgroups():
    """Against one fit."""
    rows = rows_of("newsgroups")
    one, two, fit = (rows[name] for name in ("search shared", "the same, n_jobs=2", "one fit"))
    yield (
        "20 newsgroups, tf-idf, 11,314 × 130,107, 20 classes: 5-fold search of one penalty and refit, against **one** "
        f"`LogisticRegression(C={fit['C']}).fit`",
        f"{one['ratio']:.2f} of the time, {two['ratio']:.2f} with `n_jobs=2`; test log loss {one['test log loss']:.3f}",
        f"1; test log loss {fit['test log loss']:.3f}",
    )


def raw_text():
    """A pipeline on posts."""
    rows = rows_of("raw_text")
    search, grid = rows["search"], rows["grid"]
    yield (
        "the posts themselves, `make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression())`, five vocabularies, "
        "against `GridSearchCV` over 10 values of `C`",
        f"{search['seconds']:.0f} s; CV loss {search['cv loss']:.4f}, test log loss {search['test log loss']:.3f}",
        f"{grid['seconds'] / search['seconds']:.0f} times; {grid['cv loss']:.4f}, {grid['test log loss']:.3f}",
    )


def generalization():
    """The default search against one converged C."""
    other = _unseen()
    yield (
        f'the default search (`structure="auto"`), against the best of 20 converged values of `C`: {other["sets"]} sets '
        "outside of those named to choose settings on (one limit on steps and one margin were set after a look at three of "
        "them), two to five draws of the test rows",
        f"test log loss {-other['mean']:.1f}% lower in the mean, by 1% or more on {other['better by 1%']} sets, by 5% or more "
        f"on {other['better by 5%']}; on {other['worse by 0.5% and 2 se']:.0f} higher by 0.5% and two standard errors; "
        f"{other['median seconds']:.1f} times the time of one penalty in the median",
        "1",
    )


def blocks():
    """Two kinds of columns."""
    rows = rows_of("blocks", "made")
    two, many, one = (100 * rows[name]["over informative"] for name in ("two blocks", "20 blocks of 100", "all columns, one C"))
    yield (
        "4,000 × 2,000, of which 200 columns matter, as two blocks or 20 arbitrary ones: test log loss above that of a model "
        "of the 200",
        f"{two:.2f}%; {many:.1f}%",
        f"one `C`, whoever tunes it: {one:.0f}%",
    )


def synthetic_text():
    """Three rows: as good a search, ten values, a penalty for each word."""
    rows = rows_of("synthetic_text")
    shared, many, ten = rows["search shared"], rows["search per feature"], rows["grid of 10, lbfgs"]
    longer = many["seconds"] / ten["seconds"]
    tight, newton = rows["grid of 20, lbfgs, tol=1e-05"], rows["grid of 20, newton-cg"]
    converged = rows["grid of 10, lbfgs, tol=1e-05"]
    yield (
        "synthetic text, 20,000 × 47,000, 2 classes: 5-fold search of one penalty, against the 20 values of `C` that "
        "`LogisticRegressionCV` takes to reach the same CV loss",
        f"{shared['seconds']:.2f} s; CV loss {shared['cv loss']:.4f}",
        f"lbfgs, `tol=1e-5`: {tight['ratio']:.0f} times, {tight['cv loss']:.4f}; newton-cg {newton['ratio']:.0f} times, "
        f"{newton['cv loss']:.4f}",
    )
    yield (
        "the same, against `LogisticRegressionCV(Cs=10)`, whose best `C` is "
        f"{100 * (converged['cv loss'] / shared['cv loss'] - 1):.1f}% worse",
        "",
        f"lbfgs {ten['ratio']:.0f} times, or {converged['ratio']:.0f} times where it has converged (`tol=1e-5`)",
    )
    yield (
        "the same data, 47,000 penalties, cross-fitted",
        f"{longer:.1f} times lbfgs's time for the grid of 10; test log loss {many['test log loss']:.3f}",
        f"{ten['test log loss']:.3f}",
    )


def clicks():
    """A million rows."""
    rows = rows_of("clicks")
    ours, sgd = rows["sksid"], rows["SGDClassifier"]
    yield (
        "a million clicks, 39 one-hot fields hashed into 2²⁰ columns: 5-fold search and refit, against **one** fit of an "
        "averaged `SGDClassifier`",
        f"{ours['seconds']:.0f} s; test log loss {ours['test loss']:.4f}",
        f"{sgd['seconds']:.0f} s; {sgd['test loss']:.4f}",
    )


def kernel():
    """One epoch against plain products."""
    text, news = (rows_of("kernel", "products")[name]["ratio"] for name in ("synthetic text", "20 newsgroups"))
    yield (
        "one joint epoch of 5 splits (fit, adjoint, validation), against scipy's `X @ W` and `X.T @ R` with as many columns",
        f"{text:.2f} times; 20 newsgroups {news:.2f} times",
        "1",
    )


def sgd_epoch():
    """The paper's iterations against plain products."""
    lower, linear = ([row[f"{system} / scipy"] for row in numbers("sgd_epoch")] for system in ("lower", "linear"))
    yield (
        'an epoch of the paper\'s stochastic iterations (`solver="sgd"`), 20 newsgroups, against the same products',
        f"{_span(lower)} times; linear system {_span(linear)} times",
        "1",
    )


ROWS = {
    of.__name__: of
    for of in (everywhere, newsgroups, raw_text, generalization, blocks, synthetic_text, clicks, kernel, sgd_epoch)
}


def rows(names=()):
    """Four texts a row, in Markdown."""
    return [(*row, f"`{name}.py`") for name in names or ROWS for row in ROWS[name]()]


# ---- where they go ------------------------------------------------------------------------------------------------------


def markdown():
    """The README's table."""
    lines = [HEAD, ("---",) * len(HEAD), *rows(SHORT)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def renewed(text):
    """A text whose tables between the two comments are those of today."""
    return re.sub(r"(?s)(<!-- measured -->\n).*?(<!-- end -->)", lambda found: found[1] + markdown() + found[2], text)


def substitutions():
    """What stands for single numbers on the pages, for ``rst_epilog``."""
    real, other = _real(), _unseen()
    news, raw = rows_of("newsgroups"), rows_of("raw_text")
    tuners = rows_of("tuners", "summary")
    words = {
        "tuner sets": tuners["GridSearchCV"]["sets"],
        "real sets": real["number"],
        "LRCV median": f"{real['LRCV median']:.1f}",
        "grid median": f"{real['grid median']:.1f}",
        "newsgroups ratio": f"{news['search shared']['ratio']:.2f}",
        "raw text ratio": f"{raw['grid']['seconds'] / raw['search']['seconds']:.0f}",
        "unseen sets": other["sets"],
        "unseen gain": f"{-other['mean']:.1f}%",
        "unseen better": other["better by 1%"],
        "auto cost": f"{other['median seconds']:.1f}",
    }
    return "\n".join(f".. |{name}| replace:: {value}" for name, value in words.items())


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
