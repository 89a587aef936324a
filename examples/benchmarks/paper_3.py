"""Figure 3 at full size: eight ways to spend the same budget on the two systems, with one λ and with one for each feature.

Five share the epochs equally: Batch, Stoch const, Stoch dec, Stoch dec for the lower level with Batch for the linear system,
and the reverse. Three give 75% to the lower level. The eight are choices of ours, as are λ = 0.1 and three runs; all others:
``_paper.py``.

What comes out: a method is as good as the worse of its two halves. With decreasing steps for w and Batch for v the error stays
within a factor of 2 of Batch's, over a thousand times that of decreasing steps for both, and the reverse does little better.
75% for the lower level gains nothing here: the linear system needs its half.

    python examples/benchmarks/paper_3.py --save
    python examples/benchmarks/paper_3.py --draw paper_3.png
"""

import _paper as paper

SETTINGS = {"λ = 0.1": paper.Setting(0.1), "λ_j = exp(ε_j)": paper.uneven()}

if __name__ == "__main__":
    paper.main("paper_3", __doc__, SETTINGS, paper.EIGHT, n_runs=3, budgets=(4, 20, 60))
