"""Hostile input, drawn by hypothesis: rows, labels, weights, splits, structures and pipelines that no tutorial shows."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, Normalizer, OneHotEncoder, StandardScaler

from sksid import HypergradientSearchCV, structures
from sksid.solvers import Aid, Dual, Sgd

AXES = ("table", "labels", "weights", "splits", "structure", "pipeline", "settings")


@dataclass
class Case:
    """What a search is given; ``meant`` has the numbers of X, dense, in float64, and ``cv()`` makes the same splits again."""

    X: Any
    meant: np.ndarray
    y: Any
    cv: Callable
    estimator: Any
    params: dict
    settings: dict

    def search(self):
        return HypergradientSearchCV(self.estimator, cv=self.cv(), **self.settings)


# ---- rows: values, dtypes, storages -------------------------------------------------------------------------------------


def _values(kind, random, n, p):
    """A dense table of a kind of numbers."""
    normal = random.standard_normal((n, p))
    one_hot = np.eye(p)[random.randint(p, size=n)]
    return {
        "normal": lambda: normal,
        "sparse": lambda: normal * (random.random_sample((n, p)) < 0.2),
        "counts": lambda: random.poisson(0.5, (n, p)).astype(float),
        "one-hot": lambda: one_hot,
        "empty": lambda: np.zeros((n, p)),
        "constant": lambda: np.ones((n, p)),
        "an empty row and column": lambda: normal * (np.arange(n) > 0)[:, None] * (np.arange(p) > 0),
        "a constant column": lambda: np.where(np.arange(p) == 0, 7.0, normal),
        "equal rows": lambda: np.repeat(normal[:1], n, axis=0),
        "equal columns": lambda: np.repeat(normal[:, :1], p, axis=1),
        "far from zero": lambda: 1e6 + normal,
        "scales": lambda: normal * 10.0 ** random.randint(-8, 9, p),
        "an outlier": lambda: np.where(np.arange(n)[:, None] == n - 1, 1e5, normal),
        "tiny": lambda: normal * 1e-300,
        "small": lambda: normal * 1e-100,
        "large": lambda: normal * 1e100,
        "huge": lambda: normal * 1e300,
        "from tiny to huge": lambda: normal * 10.0 ** random.randint(-300, 301, p),
        "NaN": lambda: np.where(random.random_sample((n, p)) < 0.1, np.nan, normal),
        "infinity": lambda: np.where(random.random_sample((n, p)) < 0.1, -np.inf, normal),
    }[kind]()


KINDS = (
    *("normal", "sparse", "counts", "one-hot", "empty", "constant", "an empty row and column", "a constant column"),
    *("equal rows", "equal columns", "far from zero", "scales", "an outlier", "tiny", "small", "large", "huge"),
    *("from tiny to huge", "NaN", "infinity"),
)
DTYPES = ("f8", "f4", ">f8", ">f4", "f2", "g", "i8", "i4", "u1", "i1", "?", "O", "c16")


def _shuffled(X, random):
    """CSR with its entries in no order."""
    X = sp.csr_array(X)
    for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        order = start + random.permutation(stop - start)
        X.data[start:stop], X.indices[start:stop] = X.data[order], X.indices[order]
    X.has_sorted_indices = False
    return X


def _twice(X, random):
    """COO, each entry in two halves."""
    own = sp.coo_array(X)
    rows, columns = (np.concatenate([indices, indices]) for indices in own.coords)
    return sp.coo_array((np.concatenate([own.data / 2, own.data / 2]), (rows, columns)), shape=own.shape)


def _with_zeros(X, random):
    """CSR that stores every entry, zeros too."""
    n, p = X.shape
    return sp.csr_array((X.ravel().copy(), np.tile(np.arange(p), n), np.arange(n + 1) * p), shape=(n, p))


def _long(X, random):
    """CSR with 64-bit indices."""
    X = sp.csr_array(X)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def _read_only(X, random):
    X = X.copy()
    X.setflags(write=False)
    return X


def _read_only_csr(X, random):
    X = sp.csr_array(X)
    for part in (X.data, X.indices, X.indptr):
        part.setflags(write=False)
    return X


STORAGES = {
    "C": lambda X, random: X,
    "Fortran": lambda X, random: np.asfortranarray(X),
    "strided": lambda X, random: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda X, random: X[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": _read_only,
    "list": lambda X, random: X.tolist(),
    "frame": lambda X, random: pd.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])]),
    "odd names": lambda X, random: pd.DataFrame(X, columns=["\0\n<b>$x$ {} %s \\" + "ä€😀" * j for j in range(X.shape[1])]),
    "mixed names": lambda X, random: pd.DataFrame(X, columns=[j if j % 2 else str(j) for j in range(X.shape[1])]),
    "index": lambda X, random: pd.DataFrame(X, index=random.permutation(len(X)) // 2),
    "matrix": lambda X, random: X.view(np.matrix),
    "masked": lambda X, random: np.ma.masked_array(X),
    "csr": lambda X, random: sp.csr_array(X),
    "csr, shuffled": _shuffled,
    "csr, with zeros": _with_zeros,
    "csr, 64-bit": _long,
    "csr, read-only": _read_only_csr,
    "coo, twice": _twice,
    **{
        name: lambda X, random, name=name: getattr(sp, f"{name}_array")(X)
        for name in ("csc", "coo", "lil", "dok", "dia", "bsr")
    },
    "csr_matrix": lambda X, random: sp.csr_matrix(X),
    "one axis": lambda X, random: X[:, 0],
    "three axes": lambda X, random: X[:, :, None],
    "no rows": lambda X, random: X[:0],
    "no columns": lambda X, random: X[:, :0],
    "one row less": lambda X, random: X[:-1],
    "strings": lambda X, random: X.astype(str),
    "words": lambda X, random: np.full(X.shape, "word"),
    "None": lambda X, random: None,
}
PLAIN = ("C", "csr", "Fortran", "frame")


@st.composite
def tables(draw, wild):
    """X as it is given, and the numbers that it means."""
    n = draw(st.sampled_from([2, 3, 4, 5, 8, 15, 40, 130] if wild else [12, 30, 60, 130]))
    p = draw(st.sampled_from([1, 2, 3, 7, 40] if wild else [1, 3, 6]))
    random = np.random.RandomState(draw(st.integers(0, 2**16)))
    values = _values(draw(st.sampled_from(KINDS if wild else ["normal", "sparse", "scales", "counts"])), random, n, p)
    storage = draw(st.sampled_from([*STORAGES] if wild else PLAIN))
    dtype = np.dtype(draw(st.sampled_from(DTYPES) if wild and draw(st.booleans()) else st.just("f8")))
    if (storage == "csr" or storage not in PLAIN) and dtype.kind == "f" and dtype.itemsize in (2, 16):
        dtype = np.dtype("f4")  # which sparse arrays can be made of
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", sp.SparseEfficiencyWarning)  # of a DIA array with many diagonals
        values = np.nan_to_num(values).clip(-100, 100) if dtype.kind in "iu" else values
        values = values.astype(dtype)
        meant = values.real.astype(np.float64) if dtype.kind != "O" else values.astype(np.float64)
        if dtype.kind == "c":
            values = values + 1j
        stored = _stored(values, storage, random)
    return SimpleNamespace(X=stored, meant=meant, storage=storage, random=random)


def _stored(values, storage, random):
    dense = {"C", "Fortran", "strided", "backwards", "read-only", "list", "frame", "odd names", "mixed names", "index"}
    if storage not in dense and values.dtype.kind == "O" or values.dtype.byteorder == ">" and storage != "C":
        values = values.astype(np.float64)
    return STORAGES[storage](values, random)


# ---- labels, weights, groups --------------------------------------------------------------------------------------------

NAMES = ["", "\0", "a\0b", "😀", "no\nyes", "<b>bold</b>", "$x^2$", "NaN", "0", "1"]
LABELS = {
    "int": lambda codes: codes,
    "bool": lambda codes: codes > 0,
    "float": lambda codes: codes.astype(float),
    "half": lambda codes: codes.astype(np.float16),
    "negative": lambda codes: -1 - codes,
    "beyond 2**53": lambda codes: codes + 2**53,
    "unsigned, beyond 2**63": lambda codes: codes.astype(np.uint64) + np.uint64(2**63),
    "byte": lambda codes: codes.astype(np.int8),
    "strings": lambda codes: np.array(["no", "yes", "perhaps", "never"] + [f"k{j}" for j in range(30)])[codes],
    "odd strings": lambda codes: np.array(NAMES + [f"k{j}" for j in range(30)], dtype=object)[codes],
    "bytes": lambda codes: np.array([b"no", b"yes"] + [b"k%d" % j for j in range(30)])[codes],
    "object ints": lambda codes: codes.astype(object),
    "category": lambda codes: pd.Series(codes).astype("category"),
    "unused categories": lambda codes: pd.Series(pd.Categorical(codes, categories=range(-2, 31), ordered=True)),
    "nullable": lambda codes: pd.Series(codes).astype("Int64"),
    "string series": lambda codes: pd.Series(codes).astype(str).astype("string"),
    "series, other index": lambda codes: pd.Series(codes, index=np.arange(codes.size)[::-1]),
    "list": lambda codes: codes.tolist(),
    "read-only": lambda codes: _read_only(codes, None),
    "strided": lambda codes: np.repeat(codes, 2)[::2],
    "column": lambda codes: codes[:, None],
    "two columns": lambda codes: np.column_stack([codes, codes]),
    "continuous": lambda codes: codes + 0.5,
    "NaN": lambda codes: np.where(np.arange(codes.size) == 1, np.nan, codes),
    "infinity": lambda codes: np.where(np.arange(codes.size) == 1, np.inf, codes),
    "None among strings": lambda codes: np.array(["a", "b", None, "c"] + [f"k{j}" for j in range(30)], dtype=object)[codes],
    "mixed": lambda codes: np.array(["a", 1, 2.5, "c"] + [f"k{j}" for j in range(30)], dtype=object)[codes],
    "complex": lambda codes: codes + 1j,
    "dates": lambda codes: np.datetime64("2026-01-01") + codes,
    "one class": lambda codes: np.zeros_like(codes),
    "fewer": lambda codes: codes[:-1],
    "None": lambda codes: None,
}
MANNERS = ("balanced", "one row of a class", "two rows of a class", "all different", "random")


def _codes(manner, random, n, n_classes):
    if manner == "all different":
        return random.permutation(min(n, 30)).repeat(-(-n // 30))[:n]
    if manner == "random":
        return random.randint(n_classes, size=n)
    codes = np.arange(n) % n_classes
    if manner != "balanced":
        codes = np.zeros(n, dtype=int)
        codes[: n_classes - 1] = np.arange(1, n_classes)[:n]
        if manner == "two rows of a class":
            codes[-(n_classes - 1) :] = np.arange(1, n_classes)[:n]
    return random.permutation(codes)


@st.composite
def labels(draw, n, random, wild):
    """Class codes, and the labels that are given."""
    n_classes = min(n, draw(st.sampled_from([2, 2, 3, 5]) if wild else st.sampled_from([2, 2, 2, 3])))
    codes = _codes(draw(st.sampled_from(MANNERS if wild else ["balanced"])), random, n, n_classes)
    return LABELS[draw(st.sampled_from([*LABELS] if wild else ["int", "strings"]))](codes)


WEIGHTS = {
    "ones": lambda n, y, random: np.ones(n),
    "random": lambda n, y, random: random.uniform(0.5, 2.0, n),
    "ints": lambda n, y, random: random.randint(0, 3, n),
    "some zeros": lambda n, y, random: np.where(random.random_sample(n) < 0.3, 0.0, 1.0),
    "all zeros": lambda n, y, random: np.zeros(n),
    "a class of zeros": lambda n, y, random: np.array([one != np.ravel(y).tolist()[0] for one in np.resize(y, n).tolist()]),
    "one row": lambda n, y, random: np.where(np.arange(n) == 0, 1.0, 0.0),
    "tiny": lambda n, y, random: np.full(n, 1e-300),
    "huge": lambda n, y, random: np.full(n, 1e300),
    "from tiny to huge": lambda n, y, random: 10.0 ** random.uniform(-300, 300, n),
    "scales": lambda n, y, random: 10.0 ** random.uniform(-6, 6, n),
    "subnormal": lambda n, y, random: np.full(n, 5e-324),
    "negative": lambda n, y, random: random.standard_normal(n),
    "NaN": lambda n, y, random: np.where(np.arange(n) == 1, np.nan, 1.0),
    "infinity": lambda n, y, random: np.where(np.arange(n) == 1, np.inf, 1.0),
    "float32": lambda n, y, random: random.uniform(0.5, 2.0, n).astype(np.float32),
    "bool": lambda n, y, random: random.random_sample(n) < 0.7,
    "list": lambda n, y, random: [1.0] * n,
    "series": lambda n, y, random: pd.Series(random.uniform(0.5, 2.0, n), index=np.arange(n)[::-1]),
    "read-only": lambda n, y, random: _read_only(random.uniform(0.5, 2.0, n), None),
    "number": lambda n, y, random: 2.0,
    "column": lambda n, y, random: np.ones((n, 1)),
    "fewer": lambda n, y, random: np.ones(n - 1),
    "words": lambda n, y, random: np.array(["heavy"] * n),
}
GROUPS = {
    "ints": lambda n, random: np.arange(n) % 4,
    "words": lambda n, random: np.array(["a", "b", "\0", "😀"], dtype=object)[np.arange(n) % 4],
    "one": lambda n, random: np.zeros(n, dtype=int),
    "own": lambda n, random: np.arange(n),
    "NaN": lambda n, random: np.where(np.arange(n) == 1, np.nan, np.arange(n) % 3),
    "fewer": lambda n, random: np.arange(n - 1) % 3,
    "None": lambda n, random: None,
}


# ---- splits -------------------------------------------------------------------------------------------------------------


@dataclass
class Liar:
    """A splitter that makes other splits than it says."""

    says: int
    makes: int

    def get_n_splits(self, X=None, y=None, groups=None):
        return self.says

    def split(self, X, y=None, groups=None):
        return StratifiedKFold(self.makes).split(np.zeros((len(y), 1)), y)


def _pairs(n, random, change):
    rows = random.permutation(n)
    return [change(np.setdiff1d(rows, part), part) for part in np.array_split(rows, 3)]


SPLITS = {
    "None": lambda n, random: None,
    "2": lambda n, random: 2,
    "3": lambda n, random: 3,
    "1": lambda n, random: 1,
    "more than rows": lambda n, random: n + 1,
    "KFold": lambda n, random: KFold(2),
    "shuffled": lambda n, random: StratifiedKFold(2, shuffle=True, random_state=0),
    "leave one out": lambda n, random: LeaveOneOut(),
    "shuffle": lambda n, random: ShuffleSplit(2, test_size=0.3, random_state=0),
    "stratified shuffle": lambda n, random: StratifiedShuffleSplit(2, test_size=0.4, train_size=0.4, random_state=0),
    "repeated": lambda n, random: RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
    "time": lambda n, random: TimeSeriesSplit(2),
    "groups": lambda n, random: GroupKFold(2),
    "leave one group out": lambda n, random: LeaveOneGroupOut(),
    "predefined": lambda n, random: PredefinedSplit(np.arange(n) % 3 - 1),
    "says less": lambda n, random: Liar(1, 3),
    "says more": lambda n, random: Liar(7, 2),
    "pairs": lambda n, random: _pairs(n, random, lambda train, val: (train, val)),
    "generator": lambda n, random: iter(_pairs(n, random, lambda train, val: (train, val))),
    "validation in training": lambda n, random: _pairs(n, random, lambda train, val: (np.arange(n), val)),
    "the same rows": lambda n, random: [(np.arange(n), np.arange(n))] * 2,
    "drawn twice": lambda n, random: _pairs(n, random, lambda train, val: (np.sort(np.r_[train, train]), np.r_[val, val])),
    "bootstrap": lambda n, random: [(random.randint(n, size=n), np.arange(n)) for _ in range(2)],
    "some rows": lambda n, random: _pairs(n, random, lambda train, val: (train[::2], val[::2])),
    "masks": lambda n, random: _pairs(n, random, lambda train, val: (np.isin(np.arange(n), train), np.isin(np.arange(n), val))),
    "short masks": lambda n, random: [(np.ones(n - 1, dtype=bool), np.ones(n - 1, dtype=bool))],
    "from the end": lambda n, random: _pairs(n, random, lambda train, val: (train - n, val - n)),
    "lists": lambda n, random: _pairs(n, random, lambda train, val: (train.tolist(), val.tolist())),
    "ranges": lambda n, random: [(range(n // 2), range(n // 2, n)), (slice(0, n // 2), slice(n // 2, n))],
    "unsigned": lambda n, random: _pairs(n, random, lambda train, val: (train.astype(np.uint8), val.astype(np.uint64))),
    "floats": lambda n, random: _pairs(n, random, lambda train, val: (train.astype(float), val.astype(float))),
    "beyond": lambda n, random: [(np.arange(n), np.array([n]))],
    "empty training": lambda n, random: [(np.arange(0), np.arange(n))],
    "empty validation": lambda n, random: [(np.arange(n), np.arange(0))],
    "empty list": lambda n, random: [],
    "single": lambda n, random: [(np.arange(n), np.arange(n)[: n // 2])],
    "two axes": lambda n, random: [(np.arange(n)[:, None], np.arange(n))],
    "triples": lambda n, random: [(np.arange(n), np.arange(n), np.arange(n))],
    "words": lambda n, random: "five",
    "names": lambda n, random: [(np.array(["a"]), np.array(["b"]))],
}


# ---- structures ---------------------------------------------------------------------------------------------------------


def first_moment(X, y, sample_weight):
    return np.asarray(abs(X).mean(axis=0)).ravel()


STRUCTURES = {
    **{name: lambda p, random, name=name: name for name in ("shared", "moments", "evidence", "per_feature", "auto")},
    "blocks": lambda p, random: "blocks",
    "labels": lambda p, random: np.arange(p) % 2,
    "words": lambda p, random: np.array(["\0", "a\nb", "😀"])[np.arange(p) % 3],
    "labels, list": lambda p, random: [j // 2 for j in range(p)],
    "float labels": lambda p, random: np.arange(p) / 3,
    "NaN labels": lambda p, random: np.where(np.arange(p) == 0, np.nan, 1.0),
    "a label more": lambda p, random: np.arange(p + 1),
    "matrix": lambda p, random: random.standard_normal((p, 2)),
    "sparse matrix": lambda p, random: sp.csr_array(np.eye(p)[:, : max(1, p // 2)]),
    "zeros": lambda p, random: np.zeros((p, 2)),
    "equal columns": lambda p, random: np.ones((p, 3)),
    "huge matrix": lambda p, random: np.full((p, 1), 1e300),
    "large matrix": lambda p, random: 1e6 * random.standard_normal((p, 2)),
    "tiny matrix": lambda p, random: np.full((p, 1), 1e-300),
    "NaN matrix": lambda p, random: np.full((p, 2), np.nan),
    "infinite matrix": lambda p, random: np.full((p, 1), np.inf),
    "complex matrix": lambda p, random: np.full((p, 1), 1j),
    "no columns": lambda p, random: np.ones((p, 0)),
    "object": lambda p, random: structures.groups(np.arange(p) // 2),
    "dict": lambda p, random: {"first": [0], "others\n<b>": slice(1, None)},
    "dict, overlapping": lambda p, random: {"one": [0], "two": [0]},
    "dict, empty": lambda p, random: {},
    "dict, negative": lambda p, random: {"last": [-1]},
    "dict, mask": lambda p, random: {"mask": np.arange(p) == 0},
    "dict, unknown": lambda p, random: {"one": "no such name"},
    "dict, floats": lambda p, random: {"one": [0.0]},
    "dict, numbers as names": lambda p, random: {1: [0], None: slice(1, None)},
    "function": lambda p, random: first_moment,
    "functions": lambda p, random: ["moments", first_moment, first_moment],
    "function, NaN": lambda p, random: lambda X, y, w: np.full(X.shape[1], np.nan),
    "function, infinite": lambda p, random: lambda X, y, w: np.full(X.shape[1], np.inf),
    "function, huge": lambda p, random: lambda X, y, w: 1e300 * np.arange(X.shape[1]),
    "function, short": lambda p, random: lambda X, y, w: np.ones(1 if X.shape[1] > 1 else 2),
    "function, None": lambda p, random: lambda X, y, w: None,
    "function, words": lambda p, random: lambda X, y, w: ["a"] * X.shape[1],
    "function, one argument": lambda p, random: lambda X: X[0],
    "transformer": lambda p, random: FunctionTransformer(lambda X: np.asarray(abs(X).sum(axis=0)).ravel()),
    "class": lambda p, random: StandardScaler,
    "set of names": lambda p, random: ["moments", 3],
    "none": lambda p, random: "none",
    "number": lambda p, random: 3,
    "bool": lambda p, random: True,
    "nothing": lambda p, random: None,
}
UNPENALIZED = {
    "None": lambda p: None,
    "first": lambda p: [0],
    "all": lambda p: slice(None),
    "mask": lambda p: np.arange(p) == p - 1,
    "negative": lambda p: [-1],
    "beyond": lambda p: [p],
    "empty": lambda p: [],
    "name": lambda p: "column 0",
    "floats": lambda p: [0.5],
    "short mask": lambda p: np.ones(p + 1, dtype=bool),
    "two axes": lambda p: [[0]],
}


# ---- estimators ---------------------------------------------------------------------------------------------------------


def all_columns(*parts):
    return ColumnTransformer([(name, step, columns) for name, step, columns in parts])


def function(own):
    """A step of a user's own, of the rows as an array."""
    return FunctionTransformer(own, validate=True, accept_sparse=True)


FINALS = {
    "default": lambda: LogisticRegression(),
    "C": lambda: LogisticRegression(C=1e-3),
    "large C": lambda: LogisticRegression(C=1e12),
    "tiny C": lambda: LogisticRegression(C=1e-300),
    "no intercept": lambda: LogisticRegression(fit_intercept=False),
    "balanced": lambda: LogisticRegression(class_weight="balanced"),
    "class weights": lambda: LogisticRegression(class_weight={0: 1.0, 1: 1e6}),
    "huge class weights": lambda: LogisticRegression(class_weight={0: 1.0, 1: 1e300}),
    "class weight zero": lambda: LogisticRegression(class_weight={0: 0.0, 1: 1.0}),
    "liblinear": lambda: LogisticRegression(solver="liblinear", fit_intercept=False),
    "alpha": lambda: SGDClassifier(loss="log_loss"),
    "hinge": lambda: SGDClassifier(),
    "L1": lambda: LogisticRegression(l1_ratio=1.0),
    "C zero": lambda: LogisticRegression(C=0.0),
    "C NaN": lambda: LogisticRegression(C=np.nan),
    "C text": lambda: LogisticRegression(C="one"),
}
STEPS = {
    "scaler": lambda: [StandardScaler()],
    "sparse scaler": lambda: [StandardScaler(with_mean=False)],
    "max": lambda: [MaxAbsScaler()],
    "rows": lambda: [Normalizer()],
    "nothing": lambda: ["passthrough"],
    "PCA": lambda: [PCA(n_components=1)],
    "selection": lambda: [VarianceThreshold(0.5)],
    "nothing left": lambda: [VarianceThreshold(1e12)],
    "one-hot": lambda: [OneHotEncoder(handle_unknown="ignore")],
    "one-hot, known only": lambda: [OneHotEncoder()],
    "columns": lambda: [all_columns(("a", StandardScaler(), [0]), ("b\n<b>", "passthrough", slice(1, None)))],
    "union": lambda: [FeatureUnion([("a", StandardScaler()), ("b", MaxAbsScaler())])],
    "nested": lambda: [make_pipeline(MaxAbsScaler(), Normalizer()), StandardScaler(with_mean=False)],
    "NaN": lambda: [function(lambda X: X * np.nan)],
    "signs": lambda: [function(lambda X: X.sign() if sp.issparse(X) else np.sign(X))],
    "huge": lambda: [function(lambda X: X * 1e200)],
    "fewer rows": lambda: [function(lambda X: X[1:])],
    "frame": lambda: [function(lambda X: pd.DataFrame(X.toarray() if sp.issparse(X) else X))],
}
SOLVERS = {
    **{name: lambda name=name: name for name in ("auto", "dual", "aid", "sgd")},
    "few steps": lambda: Aid(max_direct=0),
    "settings": lambda: Dual(),
    "paper": lambda: Sgd(lower_epochs=2, adjoint_epochs=2),
}
SETTINGS = {
    "none": {},
    "one step": {"max_iter": 1},
    "exact": {"tol": 1e-12, "max_iter": 20},
    "coarse": {"tol": 1e3},
    "cross-fitted": {"early_stopping": True},
    "not cross-fitted": {"early_stopping": False},
    "impatient": {"n_iter_no_change": 1},
    "accuracy": {"scoring": "accuracy"},
    "ranking": {"scoring": "roc_auc"},
    "several scores": {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"},
    "several scores, none named": {"scoring": ["accuracy", "neg_log_loss"]},
    "unknown score": {"scoring": "beauty"},
    "score of nothing": {"scoring": lambda model, X, y: np.nan},
    "score in words": {"scoring": lambda model, X, y: "good"},
    "no refit": {"refit": False},
    "last step": {"refit": lambda results: len(results["params"]) - 1},
    "a step in words": {"refit": lambda results: "best"},
    "two jobs": {"n_jobs": 2},
    "warm": {"warm_start": True},
    "loud": {"verbose": 1},
    "tol NaN": {"tol": np.nan},
    "tol text": {"tol": "0.1"},
    "half a step": {"max_iter": 0.5},
    "negative jobs": {"n_jobs": -2},
    "no jobs": {"n_jobs": 0},
    "random state text": {"random_state": "zero"},
}


# ---- everything together ------------------------------------------------------------------------------------------------


@st.composite
def cases(draw, *wild):
    """A search and its data: the axes in ``wild``, or any two, are drawn from everything there is, the rest from the usual."""
    wild = wild or draw(st.sampled_from([*combinations(AXES, 2)]))

    def pick(options, axis, usual):
        return options[draw(st.sampled_from([*options] if axis in wild else usual))]

    table = draw(tables("table" in wild))
    n, p, random = *table.meant.shape, table.random
    y = draw(labels(n, random, "labels" in wild))
    params = {}
    if "weights" in wild:
        if draw(st.integers(0, 3)):
            params["sample_weight"] = pick(WEIGHTS, "weights", ())(n, y, random)
        if not draw(st.integers(0, 3)):
            params["groups"] = pick(GROUPS, "weights", ())(n, random)
    seed, splits = random.randint(2**16), pick(SPLITS, "splits", ["2", "3", "shuffled"])
    if splits in (SPLITS["groups"], SPLITS["leave one group out"]) and draw(st.integers(0, 4)):
        params["groups"] = np.arange(n) % 4
    final = pick(FINALS, "pipeline", ["default", "default", "no intercept", "C", "alpha"])()
    piped = "pipeline" in wild and draw(st.integers(0, 3))
    estimator = make_pipeline(*pick(STEPS, "pipeline", ())(), final) if piped else final
    if piped and "sample_weight" in params:
        params[f"{estimator.steps[-1][0]}__sample_weight"] = params.pop("sample_weight")
    settings = {
        "structure": pick(STRUCTURES, "structure", ["shared", "shared", "per_feature", "moments", "auto"])(p, random),
        "unpenalized": pick(UNPENALIZED, "structure", ["None"])(p) if draw(st.integers(0, 4)) == 0 else None,
        "solver": pick(SOLVERS, "solver", ["auto", "auto", "dual", "aid", "settings"])(),
        "max_iter": draw(st.sampled_from([1, 5, 30])),
        "random_state": 0,
        **pick(SETTINGS, "settings", ["none"]),
    }
    return Case(table.X, table.meant, y, lambda: splits(n, np.random.RandomState(seed)), estimator, params, settings)
