"""Figure 1 at full size: the error of the hypergradient of one λ, four values, five runs.

Batch, Stoch const and Stoch dec, with ``dual`` and ``aid`` beside them, on MNIST. The values of λ are ours: 0.1, 1, 10 and
100, from an ill-conditioned map (q = .99) to a good one (q = .09). Minibatches are drawn independently, as the theorems have
them: the rate O(1/t) is that of independent draws (a shuffle in each epoch, the package's default, is faster once the noise
dominates; Figure 2 has both). All other choices: ``_paper.py``. What comes out is said in docs/paper.rst, where a test holds
every comparison against the numbers.

    python examples/benchmarks/paper_1.py --save
    python examples/benchmarks/paper_1.py --draw paper_1.png
"""

import _paper as paper

if __name__ == "__main__":
    paper.main("paper_1", __doc__, list(paper.ONE), paper.THREE)
