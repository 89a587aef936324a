# ruff: noqa: E501, UP031 (sentences are not wrapped)
"""What the documentation says of methods beside one another, against the numbers that it rests on.

A claim is a sentence with holes, what fills them, and what must hold; all from ``examples/benchmarks/results``. A rerun that
contradicts a sentence fails here, and the failure shows the sentence as the numbers have it.
"""

import json
import re
from pathlib import Path

import mutants
import numpy as np
import pytest

import sksid

ROOT = Path(sksid.__file__).parents[1]
RESULTS = ROOT / "examples" / "benchmarks" / "results"
PAGE = ROOT / "docs" / "paper.rst"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="sksid is not imported from its repository")


def numbers(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["numbers"]


def spoken(value):
    """Two digits: 1.1, 23, 570, 29,000."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:.1f}" if rounded < 10 else f"{rounded:,.0f}"


def flat(text):
    return re.sub(r"\s+", " ", text)


# ---- Figures 1 to 3 -----------------------------------------------------------------------------------------------------


class Panel:
    """One panel of a figure."""

    def __init__(self, figure, title):
        self.record = numbers(figure)[title]
        self.q = f"{self.record['q']:.2f}"

    def error(self, method, epochs):
        record = self.record["methods"][method]
        return record["mean"][record["epochs"].index(epochs)]

    def gain(self, better, worse, epochs):
        """How many times smaller the first one's error is."""
        return self.error(worse, epochs) / self.error(better, epochs)


CONST, DEC, BATCH = "Stoch const", "Stoch dec", "Batch"
ONE = ("λ = 0.1", "λ = 1", "λ = 10", "λ = 100")
EACH = "λ_j = exp(ε_j)"


def figure_1():
    hard, next_, mild, easy = (Panel("paper_1", title) for title in ONE)
    first, second, last = hard.gain(CONST, DEC, 4), hard.gain(CONST, DEC, 20), hard.gain(CONST, DEC, 100)
    yield (
        f"At q = {hard.q} constant steps are {spoken(first)} times better after 4 epochs and {spoken(second)} times after 20, "
        "and equal after 100.",
        first > 1 and second > 1 and 0.7 < last < 1.4,
    )
    early, late = next_.gain(CONST, DEC, 4), next_.gain(DEC, CONST, 20)
    yield (
        f"At q = {next_.q} they are {spoken(early)} times better after 4 epochs, and decreasing steps {spoken(late)} times after 20.",
        early > 1 and late > 1,
    )
    gains = [panel.gain(DEC, CONST, 4) for panel in (mild, easy)]
    yield (
        f"At q = {mild.q} and {easy.q} decreasing steps are better from the start, {spoken(gains[0])} and {spoken(gains[1])} times "
        "after 4 epochs.",
        all(panel.gain(DEC, CONST, epochs) > 1 for panel in (mild, easy) for epochs in (4, 20, 100)),
    )
    lines = [panel.record["methods"][CONST]["mean"] for panel in (next_, mild, easy)]
    yield (
        "Constant steps are fast at first and then stay at a floor; decreasing steps start more slowly, and go on.",
        all(line[-1] > 0.3 * line[1] for line in lines)
        and all(p.error(DEC, 100) < p.error(DEC, 20) for p in (hard, next_, mild)),
    )
    behind = hard.gain(CONST, BATCH, 100)
    yield (
        f"Batch converges linearly, the faster the smaller q is: at q = {easy.q} it is ahead of both by 20 epochs, at q = {mild.q} "
        f"by 100, and at q = {hard.q} it is {spoken(behind)} times worse than constant steps after 100.",
        all(easy.gain(BATCH, other, 20) > 1 and mild.gain(BATCH, other, 100) > 1 for other in (CONST, DEC))
        and any(mild.gain(BATCH, other, 20) < 1 for other in (CONST, DEC))
        and hard.error(BATCH, 100) > next_.error(BATCH, 100) > mild.error(BATCH, 100),
    )


def figure_2():
    panel = Panel("paper_2", EACH)
    first, second, last = panel.gain(CONST, DEC, 4), panel.gain(CONST, DEC, 20), panel.gain(DEC, CONST, 100)
    yield (
        f"Again constant steps lead at first, {spoken(first)} times after 4 epochs and {spoken(second)} times after 20, and "
        f"decreasing steps at the end, {spoken(last)} times after 100.",
        min(first, second, last) > 1 and panel.q == "0.99",
    )
    shuffled = panel.gain("Stoch dec, shuffled", DEC, 100)
    yield (
        f"A new order of the rows in each epoch makes no difference yet, a factor of {spoken(shuffled)} after 100 epochs.",
        0.7 < shuffled < 1.4,
    )


def figure_3():
    panels = [Panel("paper_3", title) for title in (ONE[0], EACH)]
    below, above, both = ([spoken(p.gain(m, BATCH, 60)) for p in panels] for m in ("dec + Batch", "Batch + dec", DEC))
    yield (
        "With Batch for the linear system, stochastic steps for the lower level gain a factor of "
        f"{below[0]} (one λ) and {below[1]} (one for each feature) over Batch for both, after 60 epochs. The reverse, Batch for "
        f"the lower level, gains {above[0]} and {above[1]}. Decreasing steps for both gain {both[0]} and {both[1]}.",
        all(p.gain(m, BATCH, 60) > 1 for p in panels for m in ("dec + Batch", "Batch + dec", DEC)),
    )
    halves = [max(p.error("dec + Batch", 60), p.error("Batch + dec", 60)) / p.error(BATCH, 60) for p in panels]
    yield "A method is about as good as the worse of its two halves.", all(0.1 < share < 1 for share in halves)
    shares = [p.gain(DEC, f"{DEC} 75/25", 60) for p in panels]
    yield (
        "Three quarters for the lower level gain nothing: with decreasing steps the error is "
        f"{spoken(shares[0])} and {spoken(shares[1])} times that of equal shares.",
        min(shares) > 1 and all(p.error(f"{m} 75/25", 60) > 0.95 * p.error(m, 60) for p in panels for m in (BATCH, CONST, DEC)),
    )


# ---- Figure 4 -----------------------------------------------------------------------------------------------------------


def first_steps():
    """Of Figure 4, five runs."""
    methods = numbers("paper_4_first_steps")["methods"]
    papers = [name for name in methods if name.startswith(("Batch", "Stoch"))]
    test, loss = "test accuracy", "validation loss"
    at_start = {metric: methods["dual"]["converged"][metric][0] for metric in (test, loss)}

    def end(name, metric):
        return methods[name]["converged"][metric][-1]

    yield (
        f"After six steps the paper's methods are at a test accuracy of {methods[BATCH][test][-1]:.1%} (Batch) and "
        f"{methods[DEC][test][-1]:.1%} (stochastic steps).",
        {len(methods[name][test]) for name in papers} == {6} and abs(methods[CONST][test][-1] - methods[DEC][test][-1]) < 5e-4,
    )
    yield (
        f"All of that is w_t approaching w(λ): with a converged lower level, λ_0 itself has {at_start[test]:.1%}, and their last λ "
        f"has {end(DEC, test):.1%}, too.",
        all(abs(end(name, test) - at_start[test]) < 1e-3 for name in papers),
    )
    seconds = methods[DEC]["seconds"][-1]
    yield (
        f"The validation loss is {at_start[loss]:.3f} at λ_0, and {end(DEC, loss):.3f} after six of the decreasing steps' "
        f"hypergradients and {seconds:.0f} s: they have not begun to tune.",
        all(end(name, loss) > 0.99 * at_start[loss] for name in papers),
    )
    best = max(max(record[test][1:]) for name, record in methods.items() if name != "aid")
    yield (
        f"The first w of ``aid``, at λ_0 and far from converged, has {methods['aid'][test][0] + 1e-9:.1%}, more than any tuned result.",
        methods["aid"][test][0] > max(best, *(end(name, test) for name in methods), *all_test_accuracies()),
    )


def all_test_accuracies():
    """Of the long run, at w_t and converged."""
    return [
        max(of["test accuracy"]) for record in numbers("paper_4")["methods"].values() for of in (record, record["converged"])
    ]


def figure_4():
    found = numbers("paper_4")
    methods, early = found["methods"], found["stopped early"]
    test, loss, accuracy = "test accuracy", "validation loss", "validation accuracy"
    fair, ball, cg, dual = "Batch, step 100", "heavy ball", "AID-CG", "dual, 2 passes"
    at_start = methods[dual]["converged"][loss][0]

    def at(name, metric, step=50):
        record = methods[name]["converged"]
        return record[metric][record["step"].index(step)]

    plain = numbers("paper_4_first_steps")["methods"][BATCH][loss][5]
    yield (
        f"After six steps, w_t of Batch with step 100 has a validation loss of {methods[fair][loss][5]:.2f}, with the theorems' step "
        f"{plain:.2f}.",
        methods[fair][loss][5] < plain,
    )
    yield (
        f"After 50 steps, 1,000 epochs, it is {at(fair, loss):.3f} for Batch with step 100, {at(ball, loss):.3f} for heavy ball, "
        f"{at(DEC, loss):.3f} for decreasing steps and {at(cg, loss):.3f} for AID-CG; ``dual`` is at {at(dual, loss):.3f} after 50 "
        f"steps and {methods[dual]['epochs'][49]:.0f} epochs.",
        at_start > at(fair, loss) > at(ball, loss) > at(DEC, loss) > at(cg, loss) > at(dual, loss)
        and {methods[name]["epochs"][49] for name in (fair, ball, DEC, cg)} == {1000},
    )
    ours, theirs = methods[dual]["seconds"][49], [methods[name]["seconds"][49] for name in (fair, ball, DEC, cg)]
    yield (
        f"The 50 hypergradients took {ours:.0f} s of ``dual`` and {min(theirs):.0f} to {max(theirs):.0f} s of the others.",
        ours < min(theirs),
    )
    record = methods[dual]["converged"]
    best = record["step"][int(np.argmax(record[test]))]
    yield (
        f"Converged models of ``dual`` are best on the test rows after {best:.0f} steps ({max(record[test]):.1%}, at λ_0 "
        f"{record[test][0]:.1%}) and have {record[test][-1]:.1%} after {record['step'][-1]:.0f}, when they have "
        f"{record[accuracy][-1]:.1%} on the validation rows ({record[accuracy][0]:.1%}).",
        record[accuracy] == sorted(record[accuracy]) and best < record["step"][-1],
    )
    n, last = len(early[test]), early[test][-1]
    yield (
        f"It is no effect of stopping early as such: {n} heavy-ball steps from zero come to {last:.1%}, and never to more than "
        f"the {record[test][0]:.1%} of w(λ_0).",
        max(early[test]) < record[test][0],
    )


def mnist():
    found = numbers("paper_5")
    one, methods, loss, test = found["one λ"], found["methods"], "validation loss", "test error"
    yield (
        f"The best single λ has a validation loss of {one[loss]:.3f} and a test error of {one[test]:.2%}.",
        all(len(record["seconds"]) == 61 for record in methods.values()),
    )

    def end(name):
        record = methods[name]
        return f"{record['converged'][loss]:.3f} and {record['converged'][test]:.2%} after {record['seconds'][-1]:.0f} s"

    sgd, dual, each = "a λ a feature, sgd", "a λ a feature, dual", "a λ a feature and class, sid"
    yield (
        f"A λ for each feature gets to {end(sgd)} of ``sgd``, and to {end(dual)} of ``dual``.",
        methods[dual]["converged"][loss] < methods[sgd]["converged"][loss] < one[loss],
    )
    yield (
        f"One for each feature and class gets to {end(each)}.",
        methods[sgd]["converged"][loss] < methods[each]["converged"][loss] < one[loss],
    )
    on_the_way = methods[sgd][loss]
    yield (
        "It is not that finer penalties are worth nothing, but that the minibatch iterations spend these steps on coming nearer to "
        f"w(λ), as in Figure 4: at w_t the validation loss of ``sgd`` falls from {on_the_way[0]:.3f} to {on_the_way[-1]:.3f}.",
        on_the_way[-1] > methods[sgd]["converged"][loss] and on_the_way[0] > 1.5 * on_the_way[-1],
    )


CLAIMS = [
    pytest.param(*claim, id=f"{figure.__name__}-{i}")
    for figure in (figure_1, figure_2, figure_3, first_steps, figure_4, mnist)
    for i, claim in enumerate(figure() if PAGE.exists() else ())
]


@pytest.mark.parametrize(("sentence", "holds"), CLAIMS)
def test_the_page_says_what_the_numbers_say(sentence, holds):
    assert holds, f"no longer so: {sentence}"
    assert sentence in flat(PAGE.read_text(encoding="utf-8")), f"the numbers say: {sentence}"


COMPARING = r"\btimes\b|\bthan\b|\bahead\b|\bbehind\b|\bfaster\b|\bbetter\b|\bworse\b|\bfactor\b|\blead\b|\bgains?\b|\d%"


def test_every_comparing_sentence_of_the_page_is_a_claim():
    """Of its figures; a sentence that only explains, or tells of the scripts, is listed."""
    explaining = (
        "Which is ahead depends",
        "The reason is in the step sizes",
        "A descent that is not stopped",
        "Two records are stored",
    )
    claimed = " ".join(claim.values[0] for claim in CLAIMS)
    page = PAGE.read_text(encoding="utf-8").partition("Figure 1: one penalty\n")[2].partition("What agrees with others\n")[0]
    paragraphs = [
        flat(re.sub(r"\*\*.*?\*\*", "", text)).strip() for text in page.split("\n\n") if "----" not in text and text[:2] != ".."
    ]
    sentences = [part for text in paragraphs for part in re.split(r"(?<=[.:]) (?=[A-Z])", text)]
    free = [s for s in sentences if re.search(COMPARING, s) and s not in claimed and not s.startswith(explaining)]
    assert len(sentences) > 30
    assert free == [], "\n".join(free)


@pytest.mark.parametrize("script", sorted((ROOT / "examples" / "benchmarks").glob("paper_?.py")), ids=lambda path: path.stem)
def test_the_scripts_of_the_figures_leave_results_to_the_page(script):
    """Their docstrings describe the set-up; a number with "times" would be a result that nothing holds against the JSON."""
    doc = flat(script.read_text(encoding="utf-8").partition('"""')[2].partition('"""')[0])
    assert not re.search(r"\d[\d,.]* times|times (better|worse|nearer|smaller)", doc)
    assert "docs/paper.rst, where a test holds every comparison" in doc


def test_the_looseness_of_the_bounds_is_said_as_measured():
    mnist = numbers("paper_bounds")["mnist"]
    at = {name: [panel[name][panel["epochs"].index(100)] for panel in mnist.values()] for name in ("ball", "local")}
    exponents = {name: (np.log10(min(values)), np.log10(max(values))) for name, values in at.items()}
    sentence = (
        "On MNIST, after 100 epochs for either system, Corollary 4.1 is :math:`10^{%.0f}` to :math:`10^{%.0f}` times "
        ":math:`\\lVert \\nabla F \\rVert^2`, and :math:`10^{%.0f}` to :math:`10^{%.0f}` times with ``local=True``."
    ) % (*exponents["ball"], *exponents["local"])
    digits = numbers("paper_bounds")["digits"]
    ratios = [
        np.log10(bound / measured)
        for name in digits["bounds"]
        for bound, measured in zip(digits["bounds"][name], digits["measured"][name], strict=True)
    ]
    assert min(ratios) > 0
    assert sentence in flat((ROOT / "docs" / "method.rst").read_text(encoding="utf-8")), sentence


def test_every_mutant_is_in_the_table_and_none_survived():
    """The table is written by ``python tests/mutants.py --save``; each mutant's text still stands in its file, once."""
    rows = json.loads(mutants.TABLE.read_text(encoding="utf-8"))["numbers"]["rows"]
    assert [row["mutant"] for row in rows] == [what for what, *_ in mutants.MUTANTS]
    assert len(rows) >= 25 and all(row["killed by"] != "nothing" for row in rows)
    texts = {file: (mutants.ROOT / "sksid" / "bounds" / file).read_text(encoding="utf-8") for _, file, *_ in mutants.MUTANTS}
    assert [what for what, file, before, _ in mutants.MUTANTS if texts[file].count(before) != 1] == []
