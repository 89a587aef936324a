"""The sets of everywhere.py: real ones, made ones that resemble real ones, and a grid of made ones.

A set is a name and a function without arguments that returns ``X, y, X_test, y_test``, ready to fit, as ``_common.load`` does.
The same name always means the same numbers.
"""

import fnmatch
import itertools
import zlib

import _common as common
import numpy as np
import scipy.sparse as sp
from _made import make_clicks
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_iris
from sklearn.preprocessing import StandardScaler, normalize

ROWS = (100, 1_000, 10_000, 100_000, 1_000_000)
FEATURES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
DENSITIES = (1.0, 1e-2, 1e-4)
CLASSES = (2, 10, 100)
LEAST_PER_CLASS = 10  # rows, on average
FEWEST_PER_CLASS = 5
LEAST_PER_ROW = 5  # non-zeros
MOST_TEST_ROWS = 10_000
SIGNAL = 2.5  # standard deviation of the logits


# ---- what there is ------------------------------------------------------------------------------------------------------


def real():
    """The sets of scikit-learn and, where there is one, of the data folder, by name."""
    return {"iris": _iris} | {name: lambda name=name: common.load(name) for name in common.names_here()}


def named():
    """Made sets of forms that users meet, by name."""
    return {
        "genes 100 x 20000, 4": lambda: genes(100, 20_000, 4),
        "400 x 1000, 40": lambda: embeddings(400, 1_000, 40),
        "embeddings 2000 x 384, 50": lambda: embeddings(2_000, 384, 50),
        "embeddings 400 x 768, 20": lambda: embeddings(400, 768, 20),
        "redundant 20000 x 54, 7": lambda: redundant(20_000),
        "intents 18000 x 3056, 150": lambda: intents(18_000, 3_056, 150, 9),
        "faces 400 x 4096, 40": lambda: faces(40, 10, 64),
        "clicks": lambda: clicks(1_000_000, 100_000),
    }


def grid(limit):
    """Made sets over rows, features, density and classes, by name, from small to large: at most ``limit`` stored entries."""
    cells = [
        (n * p * density, n, p, density, classes)
        for n, p, density, classes in itertools.product(ROWS, FEATURES, DENSITIES, CLASSES)
        if n * p * density <= limit and n >= LEAST_PER_CLASS * classes and (density == 1 or p * density >= LEAST_PER_ROW)
    ]
    return {
        f"made {n} x {p}, {density:g}, {classes}": lambda cell=cell: made(*cell)
        for _, *cell in sorted(cells)
        for n, p, density, classes in [cell]
    }


def chosen(patterns, entries):
    """The sets of groups, names and patterns, in their order."""
    groups = {"real": real, "named": named, "grid": lambda: grid(entries)}
    known = {group: make() for group, make in groups.items()}
    every = {name: make for sets in known.values() for name, make in sets.items()}
    names = [name for pattern in patterns for name in known.get(pattern, fnmatch.filter(every, pattern))]
    return {name: every[name] for name in dict.fromkeys(names)}


# ---- the grid -----------------------------------------------------------------------------------------------------------


def made(n, p, density, classes):
    """Rows of correlated columns, or of words, and labels by a softmax of a tenth of the columns."""
    rng = _rng("made", n, p, density, classes)
    n_test = min(n, MOST_TEST_ROWS)
    X = _factors(rng, n + n_test, p) if density == 1 else words(rng, n + n_test, p, round(density * p))
    return _split(X, _labels(rng, X, n, classes), n, dense=density == 1)


def _factors(rng, n, p):
    """Dense columns: 20 factors, whose strengths fall off, and as much noise."""
    rank = min(p, 20)
    strengths = 1.0 / np.sqrt(1.0 + np.arange(rank, dtype=np.float32))
    X = rng.standard_normal((n, p), dtype=np.float32)
    X += (rng.standard_normal((n, rank), dtype=np.float32) * strengths) @ rng.standard_normal((rank, p), dtype=np.float32)
    return X


def words(rng, n, p, length):
    """Rows of ``length`` words, whose frequencies fall off as those of a language do; of unit norm."""
    frequency = np.cumsum(1.0 / (np.arange(p) + 3.0) ** 0.95)
    found = np.searchsorted(frequency / frequency[-1], rng.random(n * length, dtype=np.float32))
    found = rng.permutation(p).astype(np.int32)[np.minimum(found, p - 1)]
    ones = np.ones(found.size, dtype=np.float32)
    X = sp.csr_matrix((ones, found, np.arange(0, found.size + 1, length)), shape=(n, p))
    X.sum_duplicates()
    rarity = np.log((1.0 + n) / (1.0 + np.bincount(X.indices, minlength=p))) + 1.0
    X.data = (1.0 + np.log(X.data)) * rarity[X.indices].astype(np.float32)
    return normalize(X, copy=False)


def _labels(rng, X, n, classes):
    """Classes with probabilities softmax(z), where z, the truth's part of the columns, has a standard deviation of SIGNAL."""
    p, outputs = X.shape[1], 1 if classes == 2 else classes
    carriers = np.sort(rng.permutation(p)[: max(min(p, 10), p // 10)])
    truth = np.zeros((p, outputs), dtype=np.float32)
    truth[carriers] = rng.standard_normal((carriers.size, outputs), dtype=np.float32)
    z = X @ truth
    z = SIGNAL * (z - z.mean(axis=0)) / (z.std(axis=0) + 1e-12)
    if classes == 2:
        z = np.hstack([np.zeros_like(z), z])
    y = np.argmax(z + rng.gumbel(size=z.shape), axis=1)
    _complete(y[:n], z[:n])
    return y


def _complete(y, z):
    """Every class gets five rows, in place: those likest to it of the largest class."""
    while (counts := np.bincount(y, minlength=z.shape[1])).min() < FEWEST_PER_CLASS:
        rows = np.flatnonzero(y == counts.argmax())
        y[rows[z[rows, counts.argmin()].argmax()]] = counts.argmin()


# ---- made sets that resemble real ones ----------------------------------------------------------------------------------


def genes(n, p, classes):
    """Few rows, many correlated columns, a hundredth of which differ by class."""
    rng = _rng("genes", n, p, classes)
    X, y = _factors(rng, 2 * n, p), np.arange(2 * n) % classes
    differ = rng.permutation(p)[: p // 100]
    X[:, differ] += 3.0 * rng.standard_normal((classes, differ.size), dtype=np.float32)[y]
    return _split(X, y, n, dense=True)


def embeddings(n, p, classes, distance=0.3):
    """Rows of unit norm about the centers of their classes, in directions of falling variances, as sentence encoders give."""
    rng = _rng("embeddings", n, p, classes)
    n_test = min(n, MOST_TEST_ROWS)
    y = rng.permutation(n + n_test) % classes
    spread = (1.0 + np.arange(p)) ** -0.5
    centers = distance * rng.standard_normal((classes, p)) * spread
    X = normalize((centers[y] + rng.standard_normal((y.size, p)) * spread) @ _rotation(rng, p)).astype(np.float32)
    return _split(X, y, n, dense=True)


def _rotation(rng, p):
    return np.linalg.qr(rng.standard_normal((p, p)))[0]


def redundant(n):
    """10 measurements and one-hot columns of two fields, 4 and 40 wide, each of which sums to one; 7 uneven classes."""
    rng = _rng("redundant", n)
    total, classes = n + MOST_TEST_ROWS, 7
    fields = [rng.choice(width, size=total, p=_falling(width)) for width in (4, 40)]
    shift = [rng.standard_normal((width, 10)) for width in (4, 40)]
    numbers = rng.standard_normal((total, 10)) + sum(by[field] for by, field in zip(shift, fields, strict=True))
    X = np.hstack([numbers, *(np.eye(width)[field] for width, field in zip((4, 40), fields, strict=True))])
    z = X @ rng.standard_normal((54, classes)) * 0.7 + np.log(_falling(classes))
    return _split(X, np.argmax(z + rng.gumbel(size=z.shape), axis=1), n, dense=True)


def intents(n, p, classes, length):
    """Short questions: words of the language at large, and words of the class; unit norm."""
    rng = _rng("intents", n, p, classes)
    n_test = min(n // 4, MOST_TEST_ROWS)
    total = n + n_test
    y = rng.permutation(total) % classes
    own = np.array([rng.permutation(p)[:30] for _ in range(classes)])
    common_words = rng.choice(p, size=(total, length), p=_falling(p))
    of_class = np.take_along_axis(own[y], rng.choice(30, size=(total, length), p=_falling(30)), axis=1)
    found = np.where(rng.random((total, length)) < 0.3, of_class, common_words)
    X = sp.csr_matrix((np.ones(found.size, dtype=np.float32), found.ravel(), np.arange(0, found.size + 1, length)), (total, p))
    X.sum_duplicates()
    rarity = np.log((1.0 + total) / (1.0 + np.bincount(X.indices, minlength=p))) + 1.0
    X.data *= rarity[X.indices].astype(np.float32)
    return _split(normalize(X), y, n, dense=False)


def faces(people, pictures, side):
    """Smooth pictures: one of each person, a light that comes from somewhere, an expression, noise."""
    rng = _rng("faces", people, pictures, side)
    y = np.tile(np.arange(people), 2 * pictures)

    def smooth(count, blur):
        return gaussian_filter(rng.standard_normal((count, side, side)), (0, blur, blur)) * blur

    slopes = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, side)])).reshape(2, -1)
    person = 0.4 * (smooth(people, 6.0) + 0.6 * smooth(people, 2.0))[y]
    X = (person + 0.8 * smooth(y.size, 4.0) + 0.2 * smooth(y.size, 1.0)).reshape(y.size, -1)
    return _split(X + 0.7 * rng.standard_normal((y.size, 2)) @ slopes, y, people * pictures, dense=True)


def clicks(n, n_test):
    """A click log, with indices that every solver of scikit-learn takes."""
    X, y = make_clicks(n + n_test, seed=0)
    X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return X[:n], y[:n], X[n:], y[n:]


def _iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y, None, None


# ---- helpers ------------------------------------------------------------------------------------------------------------


def _falling(count):
    """Frequencies that fall off, and sum to one."""
    weights = 1.0 / (np.arange(count) + 2.0)
    return weights / weights.sum()


def _rng(*what):
    return np.random.default_rng(zlib.crc32(repr(what).encode()))


def _split(X, y, n, dense):
    """The first n rows to train on, the others to test; dense features standardized."""
    train, test = X[:n], X[n:]
    if dense:
        scaler = StandardScaler(copy=False).fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    return train, y[:n].astype(np.int64), test, y[n:].astype(np.int64)
