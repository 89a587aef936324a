"""Figure 2 at full size: the error of the hypergradient of one λ for each feature, λ_j = e^{ε_j}, ten runs.

ε_j is uniform on [-2, 2]; a run draws it, the halves of MNIST and the minibatches. The error is that of the whole vector of 784
derivatives. Methods as in Figure 1, and "shuffled": decreasing steps through a new order of the rows in each epoch. All other
choices: ``_paper.py``. What comes out is said in docs/paper.rst, where a test holds every comparison against the numbers.

    python examples/benchmarks/paper_2.py --save
    python examples/benchmarks/paper_2.py --draw paper_2.png
"""

import _paper as paper

if __name__ == "__main__":
    paper.main("paper_2", __doc__, [paper.EACH], paper.THREE | paper.SHUFFLED)
