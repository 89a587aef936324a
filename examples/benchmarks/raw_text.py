"""Raw posts of 20 newsgroups: a search of the Pipeline against GridSearchCV over 10 values of C in the same Pipeline.

``make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression())``, five folds, the vocabulary of each fold's training
posts. Seconds, refit included; the CV loss that is reported; loss and accuracy on the test posts.

    python examples/benchmarks/raw_text.py

``--jobs 2`` gives both sides two jobs; ``--sides search`` leaves the grid out, which takes the most of an hour.
"""

import time

import _common as common
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sksid import HypergradientSearchCV

GRID = np.logspace(-0.5, 4.0, 10)


def make_sides(n_jobs):
    """The two searches, unfitted."""
    pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(max_iter=1000))
    return {
        "search": HypergradientSearchCV(pipeline, structure="shared", cv=5, n_jobs=n_jobs, random_state=0),
        "grid": GridSearchCV(
            pipeline, {"logisticregression__C": GRID}, cv=5, n_jobs=n_jobs, scoring="neg_log_loss", refit=True
        ),
    }


def main():
    """Fit each side once."""
    parser = common.parser(__doc__)
    parser.add_argument("--jobs", type=int, default=None, help="n_jobs of both sides")
    parser.add_argument("--sides", nargs="+", default=["search", "grid"], choices=["search", "grid"])
    args = parser.parse_args()
    loader = common.loader()
    posts, y, _ = loader.text("20newsgroups", "train")
    test_posts, y_test, _ = loader.text("20newsgroups", "test")
    if args.quick:
        kept = np.flatnonzero(y < 2)
        posts, y = [posts[i] for i in kept], y[kept]
        test_posts, y_test = [test_posts[i] for i in np.flatnonzero(y_test < 2)], y_test[y_test < 2]
    rows = []
    for name in args.sides:
        begin = time.perf_counter()
        model = make_sides(args.jobs)[name].fit(posts, y)
        seconds = time.perf_counter() - begin
        probabilities = model.predict_proba(test_posts)
        rows.append(
            {
                "": name,
                "seconds": seconds,
                "C": model.best_params_["logisticregression__C"],
                "cv loss": -float(model.best_score_),
                "test log loss": log_loss(y_test, probabilities, labels=model.classes_),
                "test accuracy": float(np.mean(model.classes_[probabilities.argmax(axis=1)] == y_test)),
                "points": len(model.cv_results_["params"]),
            }
        )
        print(common.line(rows[-1]), flush=True)
    print(f"\n{len(posts):,} posts, {model.classes_.size} classes\n")
    common.table(rows)
    common.finish("raw_text", args, {"rows": rows})


if __name__ == "__main__":
    main()
