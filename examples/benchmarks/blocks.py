"""One penalty for each block of features against one for all: a made problem, and real tables of text, numbers and categories.

Made: 4,000 x 2,000 CSR, 200 columns that matter and 1,800 of noise. As two blocks, and as 20 arbitrary ones of 100, against
one ``C`` tuned on all columns, and on those that matter alone. Real: ``ColumnTransformer`` in a Pipeline, blocks against
"shared", test log loss over random halves of the rows, paired.

Scales: the words of two newsgroups beside columns of noise, of unit variance or thirty times that, 300 posts to train on.

    python examples/benchmarks/blocks.py
"""

import time

import _common as common
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from sksid import HypergradientSearchCV

N_FEATURES, N_INFORMATIVE = 2000, 200
MADE = {
    "all columns, one C": (slice(None), "shared"),
    "two blocks": (slice(None), {"informative": slice(N_INFORMATIVE), "noise": slice(N_INFORMATIVE, None)}),
    "20 blocks of 100": (slice(None), {f"{start}": slice(start, start + 100) for start in range(0, N_FEATURES, 100)}),
    "informative columns, one C": (slice(N_INFORMATIVE), "shared"),
}


def search(estimator, structure, X, y):
    """The fitted search and its seconds."""
    begin = time.perf_counter()
    found = HypergradientSearchCV(estimator, structure=structure, cv=5, random_state=0).fit(X, y)
    return found, time.perf_counter() - begin


def make(seed, n=4000, n_test=20_000, density=0.1, signal=3.0):
    """Sparse normal entries; normal coefficients of the informative columns; logits of standard deviation ``signal``."""
    random = np.random.RandomState(seed)
    X = sp.random(n + n_test, N_FEATURES, density, format="csr", random_state=random, data_rvs=random.standard_normal)
    true = np.zeros(N_FEATURES)
    true[:N_INFORMATIVE] = random.standard_normal(N_INFORMATIVE)
    logits = X @ true
    y = (random.random_sample(n + n_test) < 1 / (1 + np.exp(-signal * logits / logits.std()))).astype(int)
    return X[:n], y[:n], X[n:], y[n:]


def made_problem(seeds):
    """A row for each way to search, the losses relative to those of the informative columns, seed by seed."""
    losses, seconds = {name: [] for name in MADE}, {name: [] for name in MADE}
    for seed in seeds:
        X, y, X_test, y_test = make(seed)
        for name, (columns, structure) in MADE.items():
            found, taken = search(LogisticRegression(), structure, X[:, columns], y)
            losses[name].append(log_loss(y_test, found.predict_proba(X_test[:, columns])))
            seconds[name].append(taken)
    oracle = np.array(losses["informative columns, one C"])
    return [
        {
            "made": name,
            "test log loss": float(np.mean(own)),
            "over informative": float(np.mean(own / oracle - 1)),
            "worst seed": float(np.max(own / oracle - 1)),
            "seconds": float(np.median(seconds[name])),
        }
        for name, own in losses.items()
    ]


def scales(seeds):
    """Words alone, words and noise under one ``C``, and under two: mean test log loss."""
    posts, y, _ = common.loader().text("20newsgroups", "train")
    kept = np.flatnonzero(np.isin(y, [16, 18]))
    words = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform([posts[i] for i in kept])
    y, rows, random = y[kept], [], np.random.RandomState(0)
    for n_noise, scale in ((20, 1.0), (20, 30.0), (100, 1.0), (100, 30.0)):
        both = sp.hstack([words, sp.csr_array(scale * random.randn(len(y), n_noise))], format="csr")
        blocks = {"words": slice(words.shape[1]), "noise": slice(words.shape[1], None)}
        sides = {"words alone": (words, "shared"), "one C": (both, "shared"), "blocks": (both, blocks)}
        losses = {name: [] for name in sides}
        for seed in seeds:
            train, test = train_test_split(np.arange(len(y)), train_size=300, stratify=y, random_state=seed)
            for name, (X, structure) in sides.items():
                found, _ = search(LogisticRegression(), structure, X[train], y[train])
                losses[name].append(log_loss(y[test], found.predict_proba(X[test])))
        rows.append({"noise columns": n_noise, "scale": scale, **{name: float(np.mean(own)) for name, own in losses.items()}})
    return rows


# ---- tables -------------------------------------------------------------------------------------------------------------


def newsgroups():
    """Four groups of posts: words, numbers of the post, and a weekday drawn at random, which is noise."""
    posts, y, _ = common.loader().text("20newsgroups", "train")
    kept = np.flatnonzero(np.isin(y, [18, 19, 15, 0]))  # politics and religion, which share their words
    posts, y = [posts[i] for i in kept], y[kept]
    random = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "post": posts,
            "length": np.log1p([len(post) for post in posts]),
            "lines": np.log1p([post.count("\n") for post in posts]),
            "capitals": [sum(map(str.isupper, post)) / (1 + len(post)) for post in posts],
            "questions": np.log1p([post.count("?") for post in posts]),
            "weekday": random.choice(list("MTWTFSS"), len(posts)),
        }
    )
    columns = ColumnTransformer(
        [
            ("words", TfidfVectorizer(sublinear_tf=True, min_df=2), "post"),
            ("numbers", StandardScaler(), ["length", "lines", "capitals", "questions"]),
            ("weekday", OneHotEncoder(handle_unknown="ignore"), ["weekday"]),
        ]
    )
    return frame, y, columns


def advertisements():
    """farm_ads: its words, 50 latent directions of them, scaled, and the size of the advertisement."""
    X, y, X_test, y_test = common.load("farm_ads")
    X, y = sp.vstack([X, X_test], format="csr"), np.append(y, y_test)
    size = np.log1p(np.diff(X.indptr))[:, None]
    stacked = sp.hstack([X, size], format="csr")
    words, last = slice(0, X.shape[1]), [X.shape[1]]
    columns = ColumnTransformer(
        [
            ("words", FunctionTransformer(), words),
            ("latent", make_pipeline(TruncatedSVD(50, random_state=0), StandardScaler()), words),
            ("size", make_pipeline(FunctionTransformer(accept_sparse=True), StandardScaler(with_mean=False)), last),
        ]
    )
    return stacked, y, columns


def census():
    """a9a: its 123 indicators by the attribute that they stem from, given as positions."""
    X, y, X_test, y_test = common.load("a9a")
    ends = [5, 13, 21, 37, 53, 60, 74, 80, 85, 87, 89, 91, 97, 123]  # LIBSVM's order of UCI Adult's attributes
    starts = [0, *ends[:-1]]
    return (
        sp.vstack([X, X_test], format="csr"),
        np.append(y, y_test),
        {f"{a}": slice(a, b) for a, b in zip(starts, ends, strict=True)},
    )


def real(name, make_table, seeds, share):
    """Blocks against one ``C``, on the same random part of the rows, the others for the test."""
    X, y, columns = make_table()
    estimator, structures = LogisticRegression(), {"shared": "shared", "blocks": columns}
    if isinstance(columns, ColumnTransformer):
        estimator, structures["blocks"] = make_pipeline(columns, LogisticRegression()), "blocks"
    losses, seconds, last = {"shared": [], "blocks": []}, {"shared": [], "blocks": []}, None
    for seed in seeds:
        train, test = train_test_split(np.arange(len(y)), train_size=share, stratify=y, random_state=seed)
        rows = X.iloc if isinstance(X, pd.DataFrame) else X
        for which, structure in structures.items():
            last, taken = search(estimator, structure, rows[train], y[train])
            losses[which].append(log_loss(y[test], last.predict_proba(rows[test]), labels=last.classes_))
            seconds[which].append(taken)
    difference = np.array(losses["blocks"]) - np.array(losses["shared"])
    print(f"{name}: {common.line({f'C {block}': C for block, C in last.block_params_.items()})}", flush=True)
    return {
        "table": name,
        "shared": float(np.mean(losses["shared"])),
        "blocks": float(np.mean(losses["blocks"])),
        "difference": float(difference.mean()),
        "standard error": float(difference.std(ddof=1) / np.sqrt(difference.size)) if difference.size > 1 else float("nan"),
        "better in": f"{int((difference < 0).sum())} of {difference.size}",
        "seconds shared": float(np.median(seconds["shared"])),
        "seconds blocks": float(np.median(seconds["blocks"])),
    }


def main():
    """Made problem, scales, then tables."""
    parser = common.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    seeds = range(1 if args.quick else args.seeds)
    made = made_problem(seeds)
    common.table(made)
    print()
    by_scale = scales(seeds)
    common.table(by_scale)
    print()
    tables = {"farm_ads": (advertisements, 0.5), "a9a": (census, 0.05), "20newsgroups": (newsgroups, 0.5)}
    rows = [real(name, table, seeds, share) for name, (table, share) in tables.items()]
    print()
    common.table(rows)
    common.finish("blocks", args, {"made": made, "scales": by_scale, "real": rows})


if __name__ == "__main__":
    main()
