"""What data say is data: names do not break out of lines, figures, HTML or files, and nothing in them is run."""

import builtins
import dataclasses
import io
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from searches import search_for
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sksid import HypergradientSearchDisplay, PenaltyDisplay
from sksid.structures import groups

HOSTILE = [
    "<script>alert(1)</script>",
    "\n[HypergradientSearchCV] shared: loss 0.000000",
    r"$\frac{$",
    "\x1b[31mred\r\b",
    "../../etc/passwd",
    "a\0b\u202egnp",
    "</pre><img src=x onerror=alert(1)>",
    "{0.__class__} %s %n",
]
MARKUP = re.compile(r"<script>alert|<img src=x|</pre><img|\x1b|\0")


def described(X, y, sample_weight):
    return np.abs(X).mean(axis=0) ** np.arange(1, 9)


described.__name__ = HOSTILE[6] + HOSTILE[1]

STRUCTURES = {
    "dict": lambda: {HOSTILE[0]: [0, 1], HOSTILE[1]: [2], HOSTILE[2]: [3, 4], HOSTILE[3]: [5]},
    "labels": lambda: np.array(HOSTILE),
    "function": lambda: described,
    "object": lambda: dataclasses.replace(groups([0] * 4 + [1] * 4), name=HOSTILE[1] + HOSTILE[6], labels=tuple(HOSTILE[:2])),
    "per_feature": lambda: "per_feature",
}


@pytest.fixture(scope="module")
def table():
    random = np.random.RandomState(0)
    X = random.standard_normal((160, 8)) * np.geomspace(0.1, 3.0, 8)
    y = np.array(HOSTILE, dtype=object)[(X[:, 0] * 10 + X[:, 7] + random.standard_normal(160) > 0).astype(int)]
    return pd.DataFrame(X, columns=HOSTILE), y


@pytest.fixture(params=STRUCTURES)
def fitted(request, table, capsys):
    search = search_for(STRUCTURES[request.param](), verbose=1, max_iter=4, early_stopping=False, scoring="accuracy")
    return search.fit(*table), capsys.readouterr().out


def test_a_name_stays_in_its_line(fitted):
    search, printed = fitted
    assert printed.count("\n") == search.n_iter_
    assert all(line.startswith("[HypergradientSearchCV] ") and line.isprintable() for line in printed.splitlines())
    assert repr(search.structure_).isprintable()


def test_a_name_is_text_in_the_html_diagram(fitted):
    search, _ = fitted
    piped = search_for(estimator=make_pipeline(StandardScaler(), LogisticRegression()), structure=search.structure)
    for shown in (search, piped, search.best_estimator_):
        assert not MARKUP.search(shown._repr_html_())


@pytest.mark.filterwarnings("ignore:constrained_layout")  # which finds no room for long names
def test_a_name_is_text_in_a_figure(fitted):
    plt = pytest.importorskip("matplotlib.pyplot")
    search, _ = fitted
    for display in (HypergradientSearchDisplay, PenaltyDisplay):
        figure = display.from_estimator(search).figure_
        figure.savefig(io.BytesIO(), format="png")
        image = io.StringIO()
        figure.savefig(image, format="svg")
        assert not MARKUP.search(image.getvalue())
    plt.close("all")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_quoted_in_an_error(name, table):
    X, y = table
    wrongs = {"structure": {name: [99]}}, {"structure": {"a": [name + "?"]}}, {"unpenalized": name + "?"}, {"structure": name}
    for wrong in wrongs:
        with pytest.raises(ValueError) as error:
            search_for(**{"structure": "shared", **wrong}).fit(X, y)
        assert str(error.value).isprintable()


def test_a_fit_opens_no_file_loads_no_pickle_and_runs_no_text(table, monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError(f"called with {arguments!r:.80}")

    search_for("auto", max_iter=3, early_stopping=False).fit(*table)  # which has imported all there is
    with monkeypatch.context() as patched:
        for owner, name in ((builtins, "open"), (builtins, "eval"), (builtins, "exec"), (pickle, "load"), (pickle, "loads")):
            patched.setattr(owner, name, refuse)
        for structure in STRUCTURES.values():
            search_for(structure(), max_iter=3, early_stopping=False).fit(*table)
