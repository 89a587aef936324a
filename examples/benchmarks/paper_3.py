"""Figure 3 at full size: eight ways to spend the same budget on the two systems, with one λ and with one for each feature.

Five share the epochs equally: Batch, Stoch const, Stoch dec, Stoch dec for the lower level with Batch for the linear system,
and the reverse. Three give 75% to the lower level. The eight are choices of ours, as are λ = 0.1 and three runs; all others:
``_paper.py``.

What comes out after 60 epochs: a method is about as good as the worse of its two halves. With decreasing steps for w and
Batch for v the error is 1.1 (one λ) and 1.9 times (one for each feature) smaller than Batch's, with the reverse 5.7 and 2.7
times, with decreasing steps for both 29,000 and 3,400 times. 75% for the lower level gains nothing here: the linear system
needs its half.

    python examples/benchmarks/paper_3.py --save
    python examples/benchmarks/paper_3.py --draw paper_3.png
"""

import _paper as paper

SETTINGS = {"λ = 0.1": paper.Setting(0.1), "λ_j = exp(ε_j)": paper.uneven()}

if __name__ == "__main__":
    paper.main("paper_3", __doc__, SETTINGS, paper.EIGHT, n_runs=3, budgets=(4, 20, 60))
