"""Figure 1 at full size: the error of the hypergradient of one λ, four values, five runs.

Batch, Stoch const and Stoch dec, with ``dual`` and ``aid`` beside them, on MNIST. The values of λ are ours: 0.1, 1, 10 and
100, from an ill-conditioned map (q = .99) to a good one (q = .09). Minibatches are drawn independently, as the theorems have
them: the rate O(1/t) is that of independent draws (a shuffle in each epoch, the package's default, is faster once the noise
dominates; Figure 2 has both). All other choices: ``_paper.py``.

What comes out: constant steps stand at their floor from q = .91 down, decreasing steps pass them there within 20 epochs, and
Batch passes both at q = .5 and .09. At q = .99 constant steps, which are larger, lead until decreasing ones draw level at 100
epochs (23 times nearer by then, if the derivatives are taken feature by feature, before they are summed for the one λ); both
are more than four decades ahead of Batch. The squared error falls as 1/t where noise is all that is left (slope of all features
-1.1 and -0.9 for λ = 10 and 100), and faster while the start is being forgotten (-2.0 and -1.4 for 0.1 and 1). The one
derivative's own slope needs more than five runs: tests/test_paper_orderings.py takes a hundred.

    python examples/benchmarks/paper_1.py --save
    python examples/benchmarks/paper_1.py --draw paper_1.png
"""

import _paper as paper

SETTINGS = {f"λ = {value:g}": paper.Setting(value) for value in (0.1, 1.0, 10.0, 100.0)}

if __name__ == "__main__":
    paper.main("paper_1", __doc__, SETTINGS, paper.THREE, n_runs=5)
