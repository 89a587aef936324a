"""Data that several test files share."""

import importlib.util
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from oracles import split_losses
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_limits

# ``default`` draws the same cases each time; ``long`` is for an evening (``pytest --hypothesis-profile=long``)
OF_ALL = {"database": None, "deadline": None, "suppress_health_check": [*HealthCheck]}
settings.register_profile("default", max_examples=40, derandomize=True, **OF_ALL)
settings.register_profile("long", max_examples=1250, **OF_ALL)
settings.load_profile("default")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """The matrices are small: more threads only wait for each other, and more so on a busy machine."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture(scope="session")
def cancer():
    """569 rows, 30 features of unit variance, two classes."""
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), y


@pytest.fixture(scope="session")
def cancer_optimum(cancer):
    """The least log loss of one penalty in three folds, over a fine grid of it."""
    X, y = cancer
    splits = list(StratifiedKFold(3).split(X, y))
    return min(split_losses(X, y, splits, log_penalty).mean() for log_penalty in np.linspace(-3, 5, 40))


@pytest.fixture(scope="session")
def digits():
    """1797 rows, 64 features from 0 to 1 (three of them always 0), ten classes."""
    X, y = load_digits(return_X_y=True)
    return X / 16.0, y


@pytest.fixture(scope="session")
def documents():
    """240 texts of two kinds: common words, words of their kind, and a word that stands in one text only."""
    random = np.random.RandomState(0)
    kinds = random.randint(0, 2, 240)
    shares = random.dirichlet(np.ones(40), size=2)
    words = [random.choice(40, size=15, p=0.5 * shares[kind] + 0.5 * shares.mean(axis=0)) for kind in kinds]
    texts = [" ".join([*(f"w{j}" for j in chosen), f"only{i}"]) for i, chosen in enumerate(words)]
    return texts, np.array(["ham", "spam"])[kinds]


@pytest.fixture(scope="session")
def load():
    """``load(name) -> X_train, y_train, X_test, y_test`` of the development data beside the repository."""
    path = DATA / "load.py"
    if not path.exists():
        pytest.skip(f"the development data is not at {DATA}")
    spec = importlib.util.spec_from_file_location("sksid_development_data", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load


@pytest.fixture
def no_switching():
    """The interpreter changes threads only where a thread lets it go of its own accord."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def listening():
    """Ctrl-C raises KeyboardInterrupt, also in a process that was started in the background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_configure(config):
    config.addinivalue_line("markers", "thread_unsafe: a mark of scikit-learn's own tests (test_sklearn_suite.py)")
