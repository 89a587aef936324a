"""What everywhere.py shows of its journal: a row for each set, medians, two pictures."""

import _common as common
import numpy as np

QUALITY = 1e-4
OURS, LRCV = "sksid", ("lbfgs", "newton-cg", "newton-cholesky")
PEERS = {"LRCV": LRCV, "grid": ("grid",), "halving": ("halving",), "optuna": ("optuna",), "bbai": ("bbai",)}
PANELS = ("20newsgroups", "isolet", "a9a", "letter", "genes 100 x 20000, 4", "embeddings 400 x 768, 20")


class Set:
    """The records of one set."""

    def __init__(self, name, records):
        self.name = name
        latest = {tuple(r.get(key) for key in ("method", "values", "tol", "repeat")): r for r in records if r["set"] == name}
        self.fits = [record for record in latest.values() if record["status"] in ("ok", "over", "died") and "values" in record]
        self.done = [record for record in self.fits if record["status"] == "ok"]
        losses = [record["converged"] for record in self.done if record["converged"] > 0]
        self.best = min(losses, default=float("nan"))
        tests = [record["test"] for record in self.done if record["method"] != OURS]
        self.best_test = np.nanmin(tests) if np.isfinite(tests).any() else float("nan")

    def excess(self, record):
        """Of a choice's converged CV loss over the best that anyone found, relative."""
        return record["converged"] / self.best - 1.0

    def seconds(self, methods, refined=False):
        """The fastest method's median, whether it is only a bound from below, and a record of it.

        ``refined``: of the forms with our quality.
        """
        forms = {}
        for record in self.fits:
            if record["method"] in methods and (refined or (record["values"], record["tol"]) == (10, 1e-4)):
                forms.setdefault((record["method"], record["values"], record["tol"]), []).append(record)
        found = [(*_median(records), records[0]) for records in forms.values() if not refined or self._good(records[0])]
        return min(found, key=lambda entry: (entry[1], entry[0]), default=(float("nan"), False, None))

    def _good(self, record):
        """Whether a fit has our quality; one that was not ended gets the benefit of the doubt."""
        if record["status"] != "ok":
            return True
        reports = record["method"] == "bbai" or abs(record["reported"] / record["converged"] - 1.0) <= QUALITY
        return reports and self.excess(record) <= QUALITY

    def ratio(self, methods, refined=False):
        """Of a peer's seconds to ours, and in which direction it is only a bound: "", ">" or "<"; NaN of two bounds."""
        (ours, ours_ended_not, _), (theirs, theirs_not, _) = self.seconds((OURS,)), self.seconds(methods, refined)
        both = ours_ended_not and theirs_not
        return float("nan") if both else theirs / ours, "<" * ours_ended_not or ">" * theirs_not

    def row(self):
        """Of the table."""
        ours, ended_not, record = self.seconds((OURS,))
        known = self.fits[0]
        row = {
            "data": self.name,
            **{name: known[name] for name in ("n", "p", "classes")},
            "seconds": ">" * ended_not + _text(ours),
        }
        for name, methods in PEERS.items():
            row[name] = _bound(*self.ratio(methods))
        for name in ("LRCV", "grid"):
            row[f"{name} refined"] = _bound(*self.ratio(PEERS[name], refined=True))
        ended = record is not None and record["status"] == "ok"
        theirs = self.seconds(LRCV)[2]
        row["excess"] = self.excess(record) if ended else float("nan")
        row["LRCV excess"] = self.excess(theirs) if theirs and theirs["status"] == "ok" else float("nan")
        row["score"] = abs(record["reported"] / record["converged"] - 1.0) if ended else float("nan")
        row["test"] = record["test"] if ended else float("nan")
        row["best peer test"] = float(self.best_test)
        row["warned"] = record["warned"] if ended else "-"
        return row


def _median(records):
    """Median seconds of repeats, and whether it is a bound: where the first has not ended."""
    ended = [record["seconds"] for record in records if record["status"] == "ok"]
    if ended:
        return float(np.median(ended)), False
    return max((record.get("seconds", float("nan")) for record in records), default=float("nan")), True


def _bound(ratio, side):
    return f"{side}{_text(ratio)}" if np.isfinite(ratio) else "-"


def _text(value):
    return f"{value:.3g}"


def summarize(records, names, real):
    """Rows of the table, medians over groups, and what the pictures show."""
    sets = [found for found in (Set(name, records) for name in names) if any(r["method"] == OURS for r in found.fits)]
    latest = {tuple(r.get(key) for key in ("set", "method", "values", "tol", "repeat")): r for r in records}.values()
    left_out = [r for r in latest if r["status"] in ("failed", "skipped", "died") and r["set"] in names]
    return {
        "rows": [found.row() for found in sets],
        "summary": [_group("real", [s for s in sets if s.name in real]), _group("all", sets)] if sets else [],
        "points": [_point(found) for found in sets],
        "panels": {found.name: _panel(found) for found in _shown(sets)},
        "left out": [{key: r.get(key, "") for key in ("set", "method", "values", "tol", "status", "why")} for r in left_out],
    }


def _group(name, sets):
    """What the table says of a group of sets; bounds count as if they were reached."""
    row = {"sets": name, "number": len(sets)}
    for title, methods, refined in (("LRCV", LRCV, False), ("LRCV refined", LRCV, True), ("grid", ("grid",), False)):
        ratios = np.array([found.ratio(methods, refined)[0] for found in sets])
        ratios = ratios[np.isfinite(ratios)]
        row |= {f"{title} median": float(np.median(ratios)) if ratios.size else float("nan")}
        row |= {
            f"{title} least": float(ratios.min()) if ratios.size else float("nan"),
            f"{title} slower": int((ratios < 1).sum()),
        }
    excess = [found.row()["excess"] for found in sets]
    return row | {"largest excess": float(np.nanmax(excess)) if np.isfinite(excess).any() else float("nan")}


def _point(found):
    known = found.fits[0]
    point = {"set": found.name, "size": float(known["n"]) * known["p"]}
    point |= {name: found.ratio(methods) for name, methods in PEERS.items()}
    return point | {"LRCV refined": found.ratio(LRCV, refined=True)}


def _shown(sets):
    """The sets of the second picture."""
    return sorted(sets, key=lambda found: found.name not in PANELS)[: len(PANELS)]


def _panel(found):
    """Seconds and excess of every fit that ended, by method."""
    panel = {}
    for record in found.done:
        panel.setdefault(record["method"], []).append([record["seconds"], found.excess(record)])
    return panel


def show(numbers):
    """Print the tables."""
    common.table(numbers["rows"])
    print("\nratios: a peer's seconds over ours; LRCV is the fastest of its three solvers; > and < are bounds")
    print("excess: of the converged CV loss at the choice over the best that anyone found; score: of what is reported\n")
    common.table(numbers["summary"])
    if numbers["left out"]:
        print("\nNot measured\n")
        common.table(numbers["left out"])


# ---- pictures -----------------------------------------------------------------------------------------------------------


def _axes(rows, columns, size):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")


def draw_ratios(numbers, path):
    """Each peer's seconds over ours, against rows times features; triangles are bounds."""
    fig, ((ax,),) = _axes(1, 1, (9, 5.5))
    markers = {"": "o", ">": "^", "<": "v"}
    for i, name in enumerate(("LRCV", "LRCV refined", "grid", "halving", "optuna", "bbai")):
        for side, marker in markers.items():
            found = [(p["size"], p[name][0]) for p in numbers["points"] if p[name][1] == side and np.isfinite(p[name][0])]
            if found:
                ax.scatter(
                    *zip(*found, strict=True), marker=marker, s=22, alpha=0.7, color=f"C{i}", label=name if not side else None
                )
    ax.axhline(1.0, color="gray", lw=1)
    ax.set(xscale="log", yscale="log", xlabel="rows × features", ylabel="seconds of the peer / seconds of sksid")
    fig.legend(loc="outside lower center", ncols=6)
    fig.savefig(path, dpi=100)


def draw_losses(numbers, path):
    """For a few sets: seconds of every fit, and the excess of the CV loss that it reached."""
    fig, axes = _axes(2, 3, (12, 7))
    colors = {name: f"C{i}" for i, name in enumerate((OURS, *LRCV, "grid", "halving", "optuna", "bbai"))}
    known = {
        title: {name: points for name, points in panel.items() if np.isfinite(points).all()}
        for title, panel in numbers["panels"].items()
    }
    for ax, (title, panel) in zip(axes.flat, known.items(), strict=False):
        if not panel:  # nobody's choice has been solved to convergence
            ax.set_axis_off()
            continue
        for name, points in panel.items():
            seconds, excess = np.array(points).T
            marker = "*" if name == OURS else "o"
            ax.scatter(
                seconds, np.maximum(excess, 1e-6), color=colors[name], marker=marker, s=110 if name == OURS else 25, label=name
            )
        ax.axhline(QUALITY, color="gray", lw=1, ls=":")
        ax.set(xscale="log", yscale="log", title=title, xlabel="seconds", ylabel="excess of the CV loss")
    handles = {label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=8)
    fig.savefig(path, dpi=100)


PICTURES = {"ratios": draw_ratios, "losses": draw_losses}
