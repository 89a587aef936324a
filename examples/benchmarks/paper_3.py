"""Figure 3 at full size: eight ways to spend the same budget on the two systems, with one λ and with one for each feature.

Five share the epochs equally: Batch, Stoch const, Stoch dec, Stoch dec for the lower level with Batch for the linear system,
and the reverse. Three give 75% to the lower level. The eight are choices of ours; the five that Figures 1 and 2 have not end
at 60 epochs. Four values of one λ, five runs; ten runs of one for each feature. All other choices: ``_paper.py``. What comes
out is said in docs/paper.rst, where a test holds every comparison against the numbers.

    python examples/benchmarks/paper_3.py --save
    python examples/benchmarks/paper_3.py --draw paper_3.png
"""

import _paper as paper

if __name__ == "__main__":
    paper.main("paper_3", __doc__, [*paper.ONE, paper.EACH], paper.EIGHT)
