# ruff: noqa: E501 (a mutant a line)
"""Mutants of ``sksid.bounds``: each formula weakened or broken in one place, and the test that notices.

    python tests/mutants.py                 # all of them, some four minutes; fails where one survives
    python tests/mutants.py --save          # and writes the table that docs/method.rst shows

A copy of the package gets one change at a time, and the tests of the bounds run on it, without the doctests, until one fails:
first the one that the table names, then those that measure, or compare with what attains a bound, then those that write the
formula a second time.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "examples" / "benchmarks" / "results" / "mutants.json"
TESTS = ["test_bounds_attained.py", "test_bounds.py"]
COLUMNS = "mutant", "killed by", "by measuring"
CONSTANTS, THEOREMS, EIGENVALUE = "_constants.py", "_theorems.py", "_eigenvalue.py"

# what, file, before, after; the text before stands there once
MUTANTS = [
    ("α = 2/(L + μ) → 1/(L + μ)", CONSTANTS, "return 2.0 / (self.L + self.mu)", "return 1.0 / (self.L + self.mu)"),
    ("1 − q = αμ → αL", CONSTANTS, "return self.alpha * self.mu", "return self.alpha * self.L"),
    ("q = 1 − αμ → 1 − 2αμ", CONSTANTS, "return 1.0 - self.gap", "return 1.0 - 2.0 * self.gap"),
    ("L_Φ = ν₂ · radius → half of it", CONSTANTS, "return self.nu2 * self.radius", "return 0.5 * self.nu2 * self.radius"),
    ("σ₂ of the linear system without its factor 2", CONSTANTS, "sigma2 = 2.0 * self.sigma1_adjoint", "sigma2 = self.sigma1_adjoint"),
    ("σ₂ of the linear system: 1/(1 − q)² → 1/(1 − q)", CONSTANTS, "self.sigma1_adjoint / self.gap**2", "self.sigma1_adjoint / self.gap"),
    ("σ₁ of the linear system: B² → B", CONSTANTS, "sigma1=sigma2 * self.B**2", "sigma1=sigma2 * self.B"),
    ("σ₁ of the linear system halved, σ₂ kept", CONSTANTS, "sigma1=sigma2 * self.B**2", "sigma1=0.5 * sigma2 * self.B**2"),
    ("D₀ of the linear system: 1/(1 − q)² → 1/(1 − q)", CONSTANTS, "distance=(self.B / self.gap) ** 2", "distance=self.B**2 / self.gap"),
    ("data curvature halved", CONSTANTS, "return bend * largest_eigenvalue(problem, training(problem, split)[0])", "return 0.5 * bend * largest_eigenvalue(problem, training(problem, split)[0])"),
    ("row curvature: 4p(1 − p) → 2p(1 − p)", CONSTANTS, "np.minimum(4.0 * bend *", "np.minimum(2.0 * bend *"),
    ("row curvature without the number of rows", CONSTANTS, "return float(n * np.max(share * squares * bends", "return float(np.max(share * squares * bends"),
    ("L: max λ → min λ", CONSTANTS, "L=data + float(np.exp(np.max(log_penalties))", "L=data + float(np.exp(np.min(log_penalties))"),
    ("μ: min λ → max λ", CONSTANTS, "mu=float(np.exp(np.min(log_penalties))", "mu=float(np.exp(np.max(log_penalties))"),
    ("L without the penalty", CONSTANTS, "L=data + float(np.exp(np.max(log_penalties)) / total)", "L=data"),
    ("σ₁ without the number of rows", CONSTANTS, "curve.alpha**2 * slope * n / batch_size", "curve.alpha**2 * slope / batch_size"),
    ("σ₁: s² → s", CONSTANTS, "(share**2 @ squares)),", "(share @ squares) / n),"),
    ("σ₁ with the batch squared", CONSTANTS, "slope * n / batch_size * (share", "slope * n / batch_size**2 * (share"),
    ("σ₁ halved", CONSTANTS, "sigma1=float(curve.alpha**2 * slope", "sigma1=float(0.5 * curve.alpha**2 * slope"),
    ("σ'₁ with one α", CONSTANTS, "(curve.alpha * bend) ** 2 / batch_size", "curve.alpha * bend**2 / batch_size"),
    ("σ'₁ halved", CONSTANTS, "sigma1_adjoint=(curve.alpha", "sigma1_adjoint=0.5 * (curve.alpha"),
    ("B without its root of r", CONSTANTS, "B=float(np.sqrt(slope * validation))", "B=float(np.sqrt(0.5 * slope * validation))"),
    ("μ₁ halved", CONSTANTS, "mu1=bend * validation", "mu1=0.5 * bend * validation"),
    ("ν₁ halved", CONSTANTS, "nu1=curve.alpha * third", "nu1=0.5 * curve.alpha * third"),
    ("ν₁: ‖x‖ → 1", CONSTANTS, "largest_eigenvalue(problem, share * np.sqrt(squares))", "largest_eigenvalue(problem, share)"),
    ("ν₂: max λ‖A_j‖ → max λ", CONSTANTS, "np.max(penalties * norms)),", "np.max(penalties)),"),
    ("ν₂ with the least λ", CONSTANTS, "nu2=float(curve.alpha * np.max(penalties", "nu2=float(curve.alpha * np.min(penalties"),
    ("radius without r", CONSTANTS, "np.sqrt(slope * squares)) / curve.mu)", "np.sqrt(0.5 * slope * squares)) / curve.mu)"),
    ("radius: μ → L", CONSTANTS, "squares)) / curve.mu) if", "squares)) / curve.L) if"),
    ("D₀ without its factor 2", CONSTANTS, "start, gradient = 2.0 * np.log", "start, gradient = 1.0 * np.log"),
    ("D₀: 1/μ² → 1/μ", CONSTANTS, "gradient / curve.mu**2", "gradient / curve.mu"),
    ("D₀ from the gradient without r/c", CONSTANTS, "slope * data / bend", "slope * data"),
    ("∂₂Φ(w*): ‖A_j‖² → ‖A_j‖", CONSTANTS, "np.max(penalties * norms**2)", "np.max(penalties * norms)"),
    ("∂₂Φ(w*) from the gradient without ‖A_j‖", CONSTANTS, "gradient * np.max(norms) ** 2", "gradient"),
    ("at_solution: σ₁ = 2V → V", CONSTANTS, "sigma1=float(2.0 * constants.alpha**2", "sigma1=float(1.0 * constants.alpha**2"),
    ("at_solution: σ₂ halved", CONSTANTS, "(2.0 * batch_size * constants.mu)", "(4.0 * batch_size * constants.mu)"),
    ("at_solution: σ₂ with L for μ", CONSTANTS, "(2.0 * batch_size * constants.mu)", "(2.0 * batch_size * constants.L)"),
    ("at_solution: variance without n", CONSTANTS, "variance = n * np.sum", "variance = np.sum"),
    ("at_solution: D₀ halved", CONSTANTS, "distance=float(np.sum(np.square(coef)))", "distance=float(0.5 * np.sum(np.square(coef)))"),
    ("at_solution: ∂₂Φ(w*) without ‖A_j‖", CONSTANTS, "constants.alpha * gradient * constants.row_norm", "constants.alpha * gradient"),
    ("β = 2/(1 − q²) → 1.2/(1 − q²)", THEOREMS, "beta = 2.0 / _rate(contraction)", "beta = 1.2 / _rate(contraction)"),
    ("γ without 1 + σ₂", THEOREMS, "return beta, beta * (1.0 + contraction.sigma2)", "return beta, beta"),
    ("constant step 1/(1 + σ₂) → 2/(1 + σ₂)", THEOREMS, "return 1.0 / (1.0 + contraction.sigma2)", "return 2.0 / (1.0 + contraction.sigma2)"),
    ("1 − q² → 1 − q", THEOREMS, "return contraction.gap * (2.0 - contraction.gap)", "return contraction.gap"),
    ("4.1: floor halved", THEOREMS, "floor = step * contraction.sigma1", "floor = 0.5 * step * contraction.sigma1"),
    ("4.1: floor without η", THEOREMS, "floor = step * contraction.sigma1", "floor = contraction.sigma1"),
    ("4.1: contraction by twice the rate", THEOREMS, "(1.0 - step * _rate(contraction)) **", "(1.0 - 2.0 * step * _rate(contraction)) **"),
    ("4.1: the floor is not taken off the start", THEOREMS, "(contraction.distance - floor) + floor", "contraction.distance + floor"),
    ("4.2: β² → β", THEOREMS, "noise = beta**2 *", "noise = beta *"),
    ("4.2: without D₀", THEOREMS, "np.maximum(gamma * contraction.distance, noise)", "noise"),
    ("4.2: without the noise", THEOREMS, "np.maximum(gamma * contraction.distance, noise)", "gamma * contraction.distance"),
    ("4.2: γ + t → 2γ + t", THEOREMS, "/ (gamma + np.asarray(t", "/ (2.0 * gamma + np.asarray(t"),
    ("4.2: β > 1/(1 − q²) not asked for", THEOREMS, "beta * _rate(contraction) > 1.0 and", "beta > 0.0 and"),
    ("4.3 for the lower level's noise", THEOREMS, "return theorem_4_2(constants.linear_system, k, steps)", "return theorem_4_2(constants, k, steps)"),
    ("3.1: without the bias of v", THEOREMS, "return first * np.asarray(distance) + moving * np.sqrt(sigma)", "return first * np.asarray(distance)"),
    ("3.1: √σ → σ", THEOREMS, "moving * np.sqrt(sigma)", "moving * np.asarray(sigma)"),
    ("3.2: L_Φ² → L_Φ", THEOREMS, "return moving**2 * np.asarray(sigma)", "return moving * np.asarray(sigma)"),
    ("3.2: m₂ without its factor 2", THEOREMS, "return 2.0 * c.m2", "return 1.0 * c.m2"),
    ("3.2: m₂B²/(1 − q)² → m₂B²/(1 − q)", THEOREMS, "(c.B / c.gap) ** 2)", "c.B**2 / c.gap)"),
    ("3.3: the first factor 2", THEOREMS, "systems = 2.0 * (first", "systems = 1.0 * (first"),
    ("3.3: the second factor 2", THEOREMS, "+ 2.0 * moving**2", "+ 1.0 * moving**2"),
    ("3.4: ρ for √ρ", THEOREMS, "theorem_3_3(constants, np.sqrt(rho), sigma, local)", "theorem_3_3(constants, np.asarray(rho), sigma, local)"),
    ("c₁ without ν₂B", THEOREMS, "(c.mu1 * fixed + c.nu2 * c.B) / c.gap", "c.mu1 * fixed / c.gap"),
    ("c₁ without μ₁L_Φ", THEOREMS, "(c.mu1 * fixed + c.nu2 * c.B) / c.gap", "c.nu2 * c.B / c.gap"),
    ("c₁: ν₁ term over (1 − q)² → (1 − q)", THEOREMS, "c.nu1 * c.B * fixed / c.gap**2", "c.nu1 * c.B * fixed / c.gap"),
    ("c₁ without μ₂", THEOREMS, "first = c.mu2 + (", "first = ("),
    ("local: ∂₂Φ(w_t) without its move from w*", THEOREMS, "fixed + c.nu2 * np.asarray(distance) if local", "fixed if local"),
    ("local and not, exchanged", THEOREMS, "c.L_Phi_solution if local else c.L_Phi", "c.L_Phi if local else c.L_Phi_solution"),
    ("corollary: k for t", THEOREMS, "theorem_4_2(constants, t), theorem_4_3(constants, k)", "theorem_4_2(constants, k), theorem_4_3(constants, k)"),
    ("eigenvalue: the Ritz value as it is", EIGENVALUE, "return ritz / (1.0 - float(np.tanh(angle)) ** 2)", "return ritz"),
    ("eigenvalue: half of the trace", EIGENVALUE, "return trace * min(1.0, _lanczos(lambda u: left(right(u))", "return trace * min(0.5, _lanczos(lambda u: left(right(u))"),
]  # fmt: skip


def killer(mutant, copy, known):
    """The name of a test that fails on the package with that change, the known one if it does; None where all pass."""
    _, file, before, after = mutant
    path = copy / "sksid" / "bounds" / file
    text = path.read_text(encoding="utf-8")
    if text.count(before) != 1:
        raise SystemExit(f"{before!r} stands {text.count(before)} times in {file}, not once")
    path.write_text(text.replace(before, after), encoding="utf-8")
    try:
        in_turn = f"test_{known.replace(' ', '_')}", "not test_formulas", "test_formulas"
        return next(filter(None, (first_failure(copy, chosen) for chosen in in_turn)), None)
    finally:
        path.write_text(text, encoding="utf-8")


def first_failure(copy, chosen):
    """Its name."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-x", "-q", "-n0", "-p", "no:cacheprovider", "--rootdir", str(copy), "-c", str(copy / "pyproject.toml")]
    tests = [str(copy / "tests" / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", *options, "-k", chosen, *tests]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=copy)
    found = re.search(r"^(?:FAILED|ERROR) \S+::test_(\w+)", done.stdout, flags=re.MULTILINE)
    if found is None and done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise SystemExit(done.stdout[-2000:])
    return found[1].replace("_", " ") if found else None


def main():
    """Try every mutant, and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="write examples/benchmarks/results/mutants.json")
    args = parser.parse_args()
    rows, table = [], json.loads(TABLE.read_text(encoding="utf-8"))["numbers"]["rows"]
    known = {row["mutant"]: row["killed by"] for row in table}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "sksid", copy / "sksid", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for mutant in MUTANTS:
            found = killer(mutant, copy, known.get(mutant[0], "nothing"))
            measured = bool(found) and not found.startswith("formulas")
            rows.append(dict(zip(COLUMNS, (mutant[0], found or "nothing", "yes" if measured else "no"), strict=True)))
            print(f"{mutant[0]:55} {found}", flush=True)
    survivors = [row for row in rows if row["killed by"] == "nothing"]
    print(
        f"{len(rows)} mutants, {sum(row['by measuring'] == 'yes' for row in rows)} killed by measuring, {len(survivors)} survive"
    )
    if args.save:
        TABLE.write_text(json.dumps({"numbers": {"rows": rows}}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
