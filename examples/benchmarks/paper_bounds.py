"""The bounds against what they bound: mean square errors of the shipped ``Sgd``, and how loose the bounds are on MNIST.

Left: 400 of the handwritten digits, odd or even, half to train; λ = 0.01 of the mean loss, minibatches of 10 rows, i.i.d.,
zero start, no intercept, the theorems' decreasing steps for both systems, 30 runs of Algorithm 1 for each budget. The mean
square errors of w_t, of v_k at its w_t and of the hypergradient in log λ, each with its bound. Right: Corollary 4.1 over |∇F|²
for MNIST at the λ of ``paper_1.py``, from 10 epochs of 100 steps for either system on, with L_Φ on the whole ball (the paper's
form) and around the solution (``local``, ours).

    python examples/benchmarks/paper_bounds.py --save
    python examples/benchmarks/paper_bounds.py --draw paper_bounds.png
"""

import _common as common
import _paper as paper
import numpy as np
from scipy.special import expit
from sklearn.datasets import load_digits

from sksid import bounds
from sksid.problem import make_problem
from sksid.solvers import Aid, Sgd, Steps

N, BATCH, RUNS, PENALTY = 200, 10, 30, 0.01
EPOCHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
MNIST_EPOCHS = (10, 100, 1000, 10_000, 100_000)


class Digits:
    """Odd or even, as a problem and densely."""

    def __init__(self):
        X, y = load_digits(return_X_y=True)
        kept = np.random.RandomState(0).permutation(y.size)[: 2 * N]
        X, self.y = (X[kept] - X[kept].mean(axis=0)) / 40, y[kept] % 2  # rows of length 1, or nearly
        self.X, self.logs = X, np.full(64, np.log(PENALTY * N))
        halves = (np.arange(N), np.arange(N, 2 * N))
        self.problem = make_problem(X, self.y, [halves], n_classes=2, fit_intercept=False, dtype=np.float64)
        self.constants = bounds.constants_of(self.problem, 0, self.logs, BATCH)
        solver = Aid(tol=1e-13, first_tol=None)
        state = solver.advance(self.problem, solver.init(self.problem, self.logs))
        self.w, self.gradient = solver.coefficients(self.problem, state)[0][0, 0], solver.log_gradient(self.problem, state)

    def adjoint(self, w):
        """v(w), of the linear system that the theorems have: (I − ∂₁Φ)v = ∇₁E."""
        p = expit(self.X @ w)
        hessian = (self.X[:N].T * (p * (1 - p))[:N]) @ self.X[:N] / N + PENALTY * np.eye(64)
        return np.linalg.solve(self.constants.alpha * hessian, self.X[N:].T @ (p - self.y)[N:] / N)


def measured(runs):
    """Mean square errors after each budget, and their bounds."""
    digits, found = Digits(), []
    problem, c = digits.problem, digits.constants
    lower, linear = (Steps("decreasing", BATCH, *bounds.decreasing(of)) for of in (c, c.linear_system))
    state = Sgd().init(problem, digits.logs, seed=0)
    for epochs in EPOCHS:
        solver, errors = Sgd(lower, linear, epochs, epochs, sampling="iid", warm=False), []
        for _ in range(runs):
            state = solver.advance(problem, solver.rescale(problem, state, digits.logs))
            w, v = solver.coefficients(problem, state)[0][0, 0], N / c.alpha * solver.adjoint(problem, state)[0][0, 0]
            differences = w - digits.w, v - digits.adjoint(w), solver.log_gradient(problem, state) - digits.gradient
            errors.append([difference @ difference for difference in differences])
        found.append(np.mean(errors, axis=0))
        print(f"{epochs} epochs: " + " ".join(f"{error:.2e}" for error in found[-1]), flush=True)
    steps = np.array(EPOCHS) * (N // BATCH)
    limits = bounds.theorem_4_2(c, steps), bounds.theorem_4_3(c, steps), bounds.corollary_4_1(c, steps, steps)
    names = ("w: Theorem 4.2", "v: Theorem 4.3", "hypergradient: Corollary 4.1")
    return {
        "q": float(c.q),
        "steps": steps.tolist(),
        "size": float(digits.gradient @ digits.gradient),
        "measured": {name: common.rounded(values) for name, values in zip(names, np.transpose(found), strict=True)},
        "bounds": {name: common.rounded(values) for name, values in zip(names, limits, strict=True)},
    }


def mnist(quick):
    """Corollary 4.1 over |∇F|², at each λ."""
    problem, found = paper.mnist(0, quick), {}
    for panel, setting in paper.ONE.items():
        logs = setting.log_penalties(problem)
        _, reference = paper.by_dual(problem, setting, 0)
        c = bounds.constants_of(problem, 0, logs, batch_size=problem.train_totals[0] / 100)
        steps, size = 100 * np.array(MNIST_EPOCHS), reference @ reference
        forms = {
            name: bounds.corollary_4_1(c, steps, steps, local) / size for name, local in (("ball", False), ("local", True))
        }
        found[panel] = {"q": float(c.q), "epochs": MNIST_EPOCHS} | {name: common.rounded(v) for name, v in forms.items()}
        print(panel, found[panel], flush=True)
    return found


def draw(numbers, path):
    """Measured errors and bounds; bounds relative to the hypergradient's square."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    small = numbers["digits"]
    for i, (name, values) in enumerate(small["bounds"].items()):
        left.plot(small["steps"], values, "--", color=f"C{i}", label=f"bound on {name}")
        left.plot(
            small["steps"], small["measured"][name], "-o", ms=3, color=f"C{i}", label=f"measured, {name.partition(':')[0]}"
        )
    left.set(title=f"digits, q = {small['q']:.2f}", xlabel="steps for either system", ylabel="mean square error")
    for i, (panel, record) in enumerate(numbers["mnist"].items()):
        right.plot(record["epochs"], record["ball"], color=f"C{i}", label=f"{panel}, q = {record['q']:.2f}")
        right.plot(record["epochs"], record["local"], "--", color=f"C{i}")
    right.axhline(1.0, color="gray", lw=1)
    right.set(title="MNIST: Corollary 4.1 over |∇F|² (dashed: local)", xlabel="epochs for either system")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log")
        ax.xaxis.set_minor_formatter("")
        ax.legend(fontsize=8)
    left.set_ylim(top=1e5 * max(max(values) for values in small["bounds"].values()))  # room for the legend
    fig.savefig(path, dpi=90)


def main():
    """Measure, or draw what was saved."""
    parser = common.parser(__doc__)
    parser.add_argument("--draw", metavar="PNG", help="draw the saved results and do nothing else")
    args = parser.parse_args()
    if args.draw:
        return draw(common.saved("paper_bounds"), args.draw)
    numbers = {"digits": measured(2 if args.quick else RUNS), "mnist": mnist(args.quick)}
    common.finish("paper_bounds", args, numbers)


if __name__ == "__main__":
    main()
