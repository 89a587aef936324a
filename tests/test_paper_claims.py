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

    def error(self, method, epochs, key="mean"):
        record = self.record["methods"][method]
        return record[key][record["epochs"].index(epochs)]

    def gain(self, better, worse, epochs, key="mean"):
        """How many times smaller the first one's error is."""
        return self.error(worse, epochs, key) / self.error(better, epochs, key)

    def slope(self, method, key="mean"):
        """Of log error against log epochs, on the budgets from 8 epochs."""
        record = self.record["methods"][method]
        epochs, errors = np.log(record["epochs"]), np.log(record[key])
        tail = epochs > np.log(7.0)
        assert tail.sum() >= 6
        return np.polyfit(epochs[tail], errors[tail], 1)[0]


def signed(value):
    """One digit: −1.1, 0.0."""
    return f"{value:.1f}".replace("-", "−").replace("−0.0", "0.0")


CONST, DEC, BATCH = "Stoch const", "Stoch dec", "Batch"
ONE = ("λ = 0.1", "λ = 1", "λ = 10", "λ = 100")
EACH = "λ_j = exp(ε_j)"
WHOLE = "all features"


def figure_1():
    hard, next_, mild, easy = panels = [Panel("paper_1", title) for title in ONE]
    first, second, third = (hard.gain(CONST, DEC, epochs) for epochs in (4, 20, 60))
    last = hard.gain(DEC, CONST, 100)
    yield (
        f"At q = {hard.q} constant steps are {spoken(first)} times better after 4 epochs, {spoken(second)} times after 20 and "
        f"{spoken(third)} times after 60; after 100 decreasing steps are {spoken(last)} times better.",
        min(first, second, third, last) > 1,
    )
    early, late = next_.gain(CONST, DEC, 4), next_.gain(DEC, CONST, 100)
    yield (
        f"At q = {next_.q} constant steps are {spoken(early)} times better after 4 epochs, and decreasing steps {spoken(late)} times "
        "after 100.",
        early > 1 and late > 1,
    )
    gains = [panel.gain(DEC, CONST, 4) for panel in (mild, easy)]
    yield (
        f"At q = {mild.q} and {easy.q} decreasing steps are better from the start, {spoken(gains[0])} and {spoken(gains[1])} times "
        "after 4 epochs.",
        all(panel.gain(DEC, CONST, epochs) > 1 for panel in (mild, easy) for epochs in panel.record["methods"][DEC]["epochs"]),
    )
    lines = [panel.record["methods"][CONST][WHOLE] for panel in panels]
    yield (
        "Constant steps are fast at first and then stay at a floor; decreasing steps start more slowly, and go on.",
        all(line[-1] > 0.8 * line[2] for line in lines)
        and all(p.error(DEC, 100, WHOLE) < p.error(DEC, 60, WHOLE) < p.error(DEC, 32, WHOLE) for p in panels),
    )
    start, end = hard.gain(CONST, DEC, 4, WHOLE), hard.gain(DEC, CONST, 100, WHOLE)
    yield (
        f"At q = {hard.q} that error is {spoken(start)} times smaller with constant steps after 4 epochs, equal after 20, and "
        f"{spoken(end)} times smaller with decreasing ones after 100.",
        start > 1 and end > 1 and 0.8 < hard.gain(DEC, CONST, 20, WHOLE) < 1.25,
    )
    falling, floor = ([panel.slope(method, WHOLE) for panel in panels] for method in (DEC, CONST))
    yield (
        "Log error of the vector against log epochs, over the six budgets from 8 to 100, has a slope of "
        f"{', '.join(map(signed, falling[:3]))} and {signed(falling[3])} for decreasing steps, in the order of the four λ, and "
        f"between {signed(min(floor))} and {signed(max(floor))} for constant ones.",
        max(falling) < -0.85 and min(floor) > -0.15 and falling == sorted(falling, key=lambda slope: round(slope, 1)),
    )
    behind = hard.gain(CONST, BATCH, 100)
    yield (
        f"Batch converges linearly, the faster the smaller q is: at q = {easy.q} it is ahead of both by 6 epochs, at q = {mild.q} "
        f"by 32, and at q = {hard.q} it is {spoken(behind)} times worse than constant steps after 100.",
        all(easy.gain(BATCH, other, 6) > 1 and mild.gain(BATCH, other, 32) > 1 for other in (CONST, DEC))
        and mild.gain(BATCH, DEC, 12) < 1
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
    yield (
        f"The slope over the six budgets from 8 to 100 is {signed(panel.slope(DEC))} for decreasing steps and "
        f"{signed(panel.slope(CONST))} for constant ones.",
        panel.slope(DEC) < -0.85 and abs(panel.slope(CONST)) < 0.15,
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
    shares = [[p.gain(m, f"{m} 75/25", 60) for p in panels] for m in (DEC, BATCH)]
    yield (
        "Three quarters for the lower level gain nothing here: with decreasing steps the error is "
        f"{spoken(shares[0][0])} and {spoken(shares[0][1])} times that of equal shares, with Batch {spoken(shares[1][0])} and "
        f"{spoken(shares[1][1])} times.",
        min(map(min, shares)) > 1,
    )
    easy = Panel("paper_3", ONE[3])
    behind = [easy.gain(BATCH, method, 20) for method in ("dec + Batch", "Batch + dec", DEC)]
    yield (
        f"Where the map contracts well it is the other way round: at q = {easy.q}, after 20 epochs, the error is at least "
        f"{spoken(min(behind))} times that of Batch for both where one half is stochastic.",
        min(behind) > 2,
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
    fair, ball, cg, dual, two = "Batch, step 100", "heavy ball", "AID-CG", "dual", "dual, 2 passes"
    others = [name for name in methods if name not in (dual, two)]
    at_start = methods[dual]["converged"][loss][0]

    def at(name, metric, step=300):
        record = methods[name]["converged"]
        return record[metric][record["step"].index(step)]

    def seen(name, key, step=300):
        return methods[name][key][methods[name]["step"].index(step)]

    def sooner(name, value):
        """Seconds of the hypergradients up to the first of every 50th λ whose converged validation loss is at most this."""
        record = methods[name]["converged"]
        return next(
            seen(name, "seconds", step) for step, of in zip(record["step"], record[loss], strict=True) if step and of <= value
        )

    yield (
        "γ = 2/(1 − q²) is so large here that decreasing steps hardly decrease, and constant ones give the same line.",
        np.allclose(methods[CONST][loss], methods[DEC][loss], rtol=5e-3),
    )
    yield (
        f"After six steps, w_t of Batch with step 100 has a validation loss of {seen(fair, loss, 6):.2f}, with the theorems' step "
        f"{seen(BATCH, loss, 6):.2f}.",
        seen(fair, loss, 6) < seen(BATCH, loss, 6),
    )
    yield (
        f"After 300 steps plain Batch has not come there yet: its w_t has a validation loss of {seen(BATCH, loss):.3f}, w(λ) at its "
        f"λ {at(BATCH, loss):.3f}.",
        seen(BATCH, loss) > 1.1 * at(BATCH, loss),
    )
    yield (
        f"After 300 steps, 6,000 epochs, it is {at(BATCH, loss):.3f} for Batch, {at(fair, loss):.3f} for Batch with step 100, "
        f"{at(ball, loss):.3f} for heavy ball, {at(DEC, loss):.3f} for constant and for decreasing steps and {at(cg, loss):.3f} for "
        "AID-CG; for "
        f"``dual`` {at(dual, loss):.3f} with ten passes a hypergradient, {seen(dual, 'epochs'):,.0f} epochs, and "
        f"{at(two, loss):.3f} with two, {seen(two, 'epochs'):,.0f} epochs.",
        at_start > at(BATCH, loss) > at(fair, loss) > at(ball, loss) > at(DEC, loss) > at(cg, loss) > at(two, loss)
        and abs(at(CONST, loss) - at(DEC, loss)) < 5e-4
        and {seen(name, "epochs") for name in others} == {6000},
    )
    reached = at(cg, loss)
    seconds = {name: sooner(name, reached) for name in (cg, two, dual)}
    yield (
        f"Counted in processor seconds of the hypergradients up to the first of every 50th λ whose converged validation loss is at "
        f"most {reached:.3f}, that of AID-CG after 300 steps, AID-CG takes {seconds[cg]:.0f} s, ``dual`` {seconds[dual]:.0f} s with "
        f"ten passes and {seconds[two]:.0f} s with two.",
        seconds[two] < seconds[dual] < seconds[cg],
    )
    record = methods[two]["converged"]
    best = record["step"][int(np.argmax(record[test]))]
    yield (
        f"Converged models of ``dual`` with two passes are best on the test rows after {best:.0f} steps ({max(record[test]):.1%}, at "
        f"λ_0 {record[test][0]:.1%}) and have {record[test][-1]:.1%} after {record['step'][-1]:.0f}, when they have "
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
        "The script's ``--without-headers``",
        "Without this limit",
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
