"""What goes wrong around a search: Ctrl-C, no room on the disk or in memory, forks, threads, workers that die; and no leaks.

``SKSID_TIMES=25 pytest tests/test_faults.py`` does everything with a number of times so many times as often.
"""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from searches import search_for
from sklearn import get_config, set_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from sksid._threads import BlasLimit

TIMES = int(os.environ.get("SKSID_TIMES", "1"))
DONE = 0
PATIENCE = 300  # seconds after which a process is taken for one that never ends, on however busy a machine


def state_of_the_process():
    """What a search may not change for others."""
    return {
        "BLAS threads": [(own["filepath"], own["num_threads"]) for own in threadpool_info()],
        "warnings filters": list(warnings.filters),
        "random state": str(np.random.get_state()),
        "numpy errors": np.geterr(),
        "settings": get_config(),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
        "directory": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
    }


@pytest.fixture
def same_state():
    """The process is afterwards as it was before: no thread more, no open file more, no setting changed."""
    before, threads, files = state_of_the_process(), threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    after = state_of_the_process()
    assert [name for name in before if before[name] != after[name]] == []
    assert threading.active_count() <= threads
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files


def run(code, timeout=PATIENCE, **environment):
    """A Python process of its own; it has ended by itself after ``timeout`` seconds, or the test fails."""
    code = SETUP + textwrap.dedent(code)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}
    ended = subprocess.run([sys.executable, "-c", code], timeout=timeout, env=environment, capture_output=True, text=True)
    assert ended.returncode == DONE, ended.stderr[-3000:] + f"\nended with {ended.returncode}"
    return ended.stdout


SETUP = """
import gc, os, resource, signal, sys, tempfile, threading, warnings
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info
from sksid import HypergradientSearchCV
random = np.random.RandomState(0)
X, y = random.standard_normal((200, 8)), random.randint(0, 2, 200)
def search(structure="shared", estimator=None, **settings):
    return HypergradientSearchCV(estimator or LogisticRegression(), structure=structure, cv=3, random_state=0, **settings)
"""


# ---- nothing is left behind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"n_jobs": 2}, {"scoring": "accuracy"}, {"solver": "sgd", "max_iter": 2}])
def test_a_search_leaves_the_process_as_it_was(settings, same_state, cancer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search_for("per_feature", **{"max_iter": 6, **settings}).fit(*cancer)


def test_a_refused_search_leaves_the_process_as_it_was(same_state, cancer):
    X, y = cancer
    for wrong in ({"structure": np.ones(3)}, {"cv": [(np.arange(9), np.arange(0))]}, {"scoring": lambda *of: "good"}):
        with pytest.raises(ValueError):
            search_for(**{"structure": "shared", **wrong}).fit(X, y)


def test_memory_threads_and_files_do_not_grow():
    """Over 60 fits, or 500 and more: less than 5 MB, once the first 40 have loaded and cached what there is."""
    code = f"""
    def used():
        gc.collect()
        pages = int(open("/proc/self/statm").read().split()[1])
        return pages * resource.getpagesize() / 2**20, threading.active_count(), len(os.listdir("/proc/self/fd"))
    def fit(k):
        kinds = [dict(), dict(structure="per_feature"), dict(solver="dual"), dict(scoring="accuracy", n_jobs=2)]
        kinds += [dict(estimator=make_pipeline(StandardScaler(), LogisticRegression())), dict(warm_start=True)]
        search(max_iter=5, **kinds[k % len(kinds)]).fit(X, y)
    warnings.simplefilter("ignore")
    for k in range(40):
        fit(k)
    memory, threads, files = used()
    for k in range({max(60, 20 * TIMES)}):
        fit(k)
    after, threads_after, files_after = used()
    print(f"{{after - memory:.2f}} MB more")
    assert after - memory < 5.0, (memory, after)
    assert threads_after <= threads and files_after <= files, (threads_after, files_after)
    """
    print(run(code, timeout=PATIENCE + 10 * TIMES))


# ---- Ctrl-C -------------------------------------------------------------------------------------------------------------

INTERRUPTED = {
    "auto": lambda: search_for("auto", max_iter=8),
    "threads": lambda: search_for("per_feature", max_iter=4, n_jobs=2),
    "scores": lambda: search_for("shared", max_iter=6, scoring="accuracy"),
    "pipeline": lambda: search_for("shared", max_iter=4, estimator=make_pipeline(StandardScaler(), LogisticRegression())),
}


@pytest.fixture
def alarm():
    """``alarm(seconds)`` raises KeyboardInterrupt as Ctrl-C does, so many seconds later."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", INTERRUPTED)
def test_an_interrupt_at_any_moment_leaves_nothing_behind(kind, same_state, alarm, cancer):
    """It is raised, or the best of the steps until then is kept; and the next search gives the same bits as ever."""
    X, y = cancer
    begin, expected = time.perf_counter(), INTERRUPTED[kind]().fit(X, y)
    seconds, random, raised = time.perf_counter() - begin, np.random.RandomState(TIMES), 0
    for _ in range(3 * TIMES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                alarm(random.uniform(1e-4, seconds))
                search = INTERRUPTED[kind]().fit(X, y)
                alarm(0)
            assert np.isfinite(search.best_estimator_[-1].coef_ if kind == "pipeline" else search.best_estimator_.coef_).all()
        except KeyboardInterrupt:
            raised += 1
    again = INTERRUPTED[kind]().fit(X, y)
    np.testing.assert_array_equal(again.penalties_, expected.penalties_)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    print(f"{kind}: {3 * TIMES} interrupts, {raised} raised, the others kept a step or came too late")


def test_an_interrupt_in_the_middle_of_changing_a_setting_does_not_leave_it_changed(same_state, cancer):
    """As where a signal comes between the two halves of a library's own context; raised, or kept as the end of a search."""
    X, y = cancer
    times = iter(range(10**9))

    def interrupted(*of):
        np.seterr(all="ignore")
        set_config(assume_finite=True)
        if next(times) == when:
            raise KeyboardInterrupt
        return 0.5

    for when in (0, 7):
        ended = pytest.raises(KeyboardInterrupt) if when == 0 else pytest.warns(UserWarning, match="nterrupt")
        with ended:
            search_for("shared", scoring=interrupted, max_iter=20).fit(X, y)


WAITING = """
from sklearn.base import BaseEstimator, TransformerMixin
signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever has started the tests may have set to ignore it

class Waits(TransformerMixin, BaseEstimator):
    def __init__(self, home, sign):
        self.home, self.sign = home, sign
    def fit(self, X, y=None):
        if os.getpid() != self.home:
            open(self.sign, "w").close()
            threading.Event().wait()
        return self
    def transform(self, X):
        return X

search(estimator=make_pipeline(Waits(os.getpid(), sys.argv[1]), LogisticRegression()), n_jobs=2).fit(X, y)
"""
REPEATED = """
signal.signal(signal.SIGINT, signal.default_int_handler)
X, y = np.tile(X, (200, 1)), np.tile(y, 200)
print("begins", flush=True)
while not os.path.exists(sys.argv[1]):
    search(estimator=make_pipeline(StandardScaler(), LogisticRegression()), n_jobs=2, max_iter=2).fit(X, y)
"""


@contextmanager
def group_of_processes(code, *arguments):
    """A Python process with a group of its own, of which nothing is left afterwards."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", SETUP + code, *map(str, arguments)], **settings) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("send", [os.killpg, os.kill], ids=["as a terminal does", "as a notebook does"])
def test_an_interrupt_while_workers_preprocess_ends_them(send, tmp_path):
    """To the whole group of processes, or to the first one only; their output ends when all of them have."""
    sign = tmp_path / "a worker is within its fit"
    with group_of_processes(WAITING, sign) as process:
        begin = time.monotonic()
        while not sign.exists():
            assert process.poll() is None and time.monotonic() < begin + PATIENCE
            time.sleep(0.01)
        send(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode in (-signal.SIGINT, 1) and "KeyboardInterrupt" in errors, errors[-2000:]


def test_an_interrupt_at_any_moment_of_searches_with_workers_ends_all_of_them(tmp_path):
    """It is raised, or the search that it came in is the last one, as the best of its steps is kept."""
    for seed in range(3 * TIMES):
        last = tmp_path / f"the last search {seed}"
        with group_of_processes(REPEATED, last) as process:
            process.stdout.readline()
            time.sleep(np.random.RandomState(seed).uniform(0.0, 4.0))
            last.touch()
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        raised = process.returncode in (-signal.SIGINT, 1) and "KeyboardInterrupt" in errors
        assert raised or process.returncode == DONE, errors[-2000:]


# ---- no room ------------------------------------------------------------------------------------------------------------

NO_ROOM = """
X, y = np.tile(X, (100, 4)), np.tile(y, 100)  # which joblib hands to its workers in a file
piped = make_pipeline(StandardScaler(), LogisticRegression())
try:
    search(estimator=piped, n_jobs=2, max_iter=2).fit(X, y)
except Exception as error:
    print(type(error).__name__, error.__cause__, error.__notes__)
search(estimator=piped, max_iter=2).fit(X, y)
"""


@pytest.mark.parametrize("where", ["/proc/no/such/place", "/dev/null"])
def test_without_a_directory_for_temporary_files_workers_are_an_error_that_says_so(where):
    said = run(NO_ROOM, TMPDIR=where, JOBLIB_TEMP_FOLDER=where)
    assert "n_jobs" in said and "JOBLIB_TEMP_FOLDER" in said


def test_on_a_full_disk_workers_are_an_error_that_says_so():
    limit = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    said = run(limit + NO_ROOM)
    assert "File too large" in said and "JOBLIB_TEMP_FOLDER" in said


SETTINGS = ["solver='dual'", "solver='aid'", "structure='per_feature'", "scoring='accuracy', n_jobs=2"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_too_little_memory_is_a_memory_error(settings):
    """Each size in a process of its own, forked from one that has everything loaded.

    Both copies of OpenBLAS have their work space too: without room for that, OpenBLAS asks for it again and again, for ever.
    """
    code = f"""
    from scipy.linalg import cholesky
    cholesky(X.T @ X)
    sizes = np.geomspace(0.05, 200, {2 + 4 * TIMES}) * 2**20
    X, y = np.tile(X, (200, 10)), np.tile(y, 200)
    search(max_iter=1).fit(X[:200], y[:200])
    ends = []
    for size in sizes:
        child = os.fork()
        if not child:
            now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + int(size),) * 2)
            try:
                search(max_iter=2, {settings}).fit(X, y)
                os._exit(0)
            except MemoryError:
                os._exit(1)
            except BaseException as error:
                said = f"{{error!r}} {{error.__context__!r}}"  # Python's ThreadPool fails on its way out of the first error
                print(said, file=sys.stderr, flush=True)
                os._exit(1 if "can't start new thread" in said else 2)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(ends)
    assert set(ends) <= {{0, 1}}, ends
    """
    run(code)


# ---- forks, threads, callbacks, workers ----------------------------------------------------------------------------------


def test_a_process_may_be_forked_before_and_after_a_search():
    run("""
    def child_finds(expected):
        child = os.fork()
        if not child:
            signal.alarm(240)
            found = search(n_jobs=2, scoring="accuracy").fit(X, y)
            os._exit(0 if expected is None or np.array_equal(found.penalties_, expected) else 1)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert child_finds(None) == 0
    assert child_finds(search(n_jobs=2, scoring="accuracy").fit(X, y).penalties_) == 0
    """)


def test_a_process_that_is_forked_while_another_thread_fits_has_all_its_threads():
    """Whoever holds the limit on BLAS, or is about to take it, is not in the child."""
    run("""
    from threadpoolctl import threadpool_limits
    from sksid._threads import single_blas_thread
    def threads():
        return {own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas"}
    threadpool_limits(2, user_api="blas")
    entered, leave = threading.Event(), threading.Event()
    def fit():
        with single_blas_thread:
            entered.set(), leave.wait()
    other = threading.Thread(target=fit)
    other.start(), entered.wait()
    single_blas_thread._lock.acquire()
    child = os.fork()
    if not child:
        signal.alarm(240)
        same = threads() == {2}
        search().fit(X, y)
        os._exit(0 if same and threads() == {2} else 1)
    single_blas_thread._lock.release()
    leave.set(), other.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and threads() == {2}
    """)


def test_an_interrupt_while_blas_is_limited_is_made_good_by_the_next_search():
    class Library:
        def __init__(self, interrupts):
            self.num_threads, self.interrupts = 4, interrupts

        def set_num_threads(self, n_threads):
            self.num_threads = n_threads
            if self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt

    limit = BlasLimit()
    limit._libraries = [Library(interrupts=0), Library(interrupts=2)]
    with pytest.raises(KeyboardInterrupt), limit:
        pass
    with limit:
        assert [library.num_threads for library in limit._libraries] == [1, 1]
    assert [library.num_threads for library in limit._libraries] == [4, 4]


def test_searches_in_eight_threads_are_those_of_one(same_state, cancer):
    X, y = cancer
    structures = ["shared", "per_feature", "moments", "auto"] * 2
    settings = [{"structure": structure, "random_state": k} for k, structure in enumerate(structures)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda own: search_for(max_iter=5, **own).fit(X, y).penalties_, settings))
    for own, penalties in zip(settings, found, strict=True):
        np.testing.assert_array_equal(search_for(max_iter=5, **own).fit(X, y).penalties_, penalties)


class Within:
    """A callback that searches, too."""

    def __init__(self, X, y):
        self.X, self.y, self.found = X, y, []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "outer-step":
            self.found.append(search_for(max_iter=2).fit(self.X, self.y).penalties_)


def test_a_callback_may_search(same_state, cancer):
    X, y = cancer
    within = Within(X, y)
    found = search_for(max_iter=4).set_callbacks(within).fit(X, y)
    np.testing.assert_array_equal(found.penalties_, search_for(max_iter=4).fit(X, y).penalties_)
    assert within.found
    np.testing.assert_array_equal(within.found[0], search_for(max_iter=2).fit(X, y).penalties_)


class Deadly(TransformerMixin, BaseEstimator):
    """A step that ends the process it is fitted in, unless that is the one that made it."""

    def __init__(self, home):
        self.home = home

    def fit(self, X, y=None):
        if os.getpid() != self.home:
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def transform(self, X):
        return X


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_dies_is_an_error_and_the_next_search_works(cancer):
    X, y = cancer
    deadly = make_pipeline(Deadly(os.getpid()), LogisticRegression())
    with pytest.raises(RuntimeError, match="worker"):
        search_for(estimator=deadly, n_jobs=2, max_iter=2).fit(X, y)
    healthy = make_pipeline(StandardScaler(), LogisticRegression())
    one, two = (search_for(estimator=healthy, n_jobs=n_jobs, max_iter=2).fit(X, y).penalties_ for n_jobs in (2, 1))
    np.testing.assert_array_equal(one, two)
