"""Figure 2 at full size: the error of the hypergradient of one λ for each feature, λ_j = e^{ε_j}, ten runs.

ε_j is uniform on [-2, 2], drawn once: the runs vary the halves of MNIST and the minibatches. The error is that of the whole
vector of 784 derivatives. Methods as in Figure 1, and "shuffled": decreasing steps through a new order of the rows in each
epoch. All other choices: ``_paper.py``.

What comes out (q = .99): constant steps are at their floor, 2e-4, after 20 epochs; decreasing steps, behind until then, are
five times nearer after 100, and still falling faster than 1/t (slope -2.3), as the start is not forgotten yet: so far a shuffle
makes no difference. Batch has hardly begun. ``dual`` is past all of them after 10 epochs.

    python examples/benchmarks/paper_2.py --save
    python examples/benchmarks/paper_2.py --draw paper_2.png
"""

import _paper as paper

SETTINGS = {"λ_j = exp(ε_j)": paper.uneven()}

if __name__ == "__main__":
    paper.main("paper_2", __doc__, SETTINGS, paper.THREE | paper.SHUFFLED, n_runs=10)
