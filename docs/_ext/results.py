"""``.. results:: newsgroups``: the table that a benchmark has left in examples/benchmarks/results/newsgroups.json.

Options: ``:rows:`` where in its numbers the rows are (``rows`` by default, as a path with dots), ``:columns:`` which columns to
show, separated by commas; ``:script:`` the benchmark's name, where the file has another.

``.. drawn:: paper_1``: the figure that a benchmark draws of its results; ``:picture:`` says which, where it draws several, and
``:format:`` its file's kind, png by default.

``.. measured:: newsgroups``: rows of the table of sentences in measured.py; all of them without an argument.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import measured
from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from gallery_style import STYLE

BENCHMARKS = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"
RESULTS = BENCHMARKS / "results"


class Results(Directive):
    """A table, and a line that says on which machine and at which commit it was measured."""

    required_arguments = 1
    option_spec = dict.fromkeys(("rows", "columns", "script"), directives.unchanged)

    def run(self):
        path = RESULTS / f"{self.arguments[0]}.json"
        self.state.document.settings.record_dependencies.add(str(path))
        report = json.loads(path.read_text(encoding="utf-8"))
        rows = report["numbers"]
        for key in self.options.get("rows", "rows").split("."):
            rows = rows[key]
        columns = [name.strip() for name in self.options.get("columns", ",".join(rows[0])).split(",")]
        machine = report.get("machine")
        if machine is None:  # nothing that was timed
            return [_table(columns, rows)]
        script = self.options.get("script", path.stem)
        source = (
            f"python examples/benchmarks/{script}.py, {machine['cores']} cores of an {machine['cpu']}, scikit-learn "
            f"{machine['scikit-learn']}, sksid {machine['sksid']} ({machine['commit']})."
        )
        return [_table(columns, rows), nodes.paragraph("", "", nodes.emphasis(text=source))]


class Drawn(Directive):
    """An image, drawn while the page is read."""

    required_arguments = 1
    option_spec = {"picture": directives.unchanged, "alt": directives.unchanged, "format": directives.unchanged}

    def run(self):
        name, env = self.arguments[0], self.state.document.settings.env
        self.state.document.settings.record_dependencies.add(str(RESULTS / f"{name}.json"))
        picture = self.options.get("picture")
        file = f"{name}{f'_{picture}' if picture else ''}.{self.options.get('format', 'png')}"
        path = Path(env.srcdir) / "_figures" / file
        path.parent.mkdir(exist_ok=True)
        command = [sys.executable, BENCHMARKS / f"{name}.py", "--draw", path]
        style = {**os.environ, "MATPLOTLIBRC": str(STYLE)}  # transparent, in colors for both themes
        subprocess.run(command + (["--picture", picture] if picture else []), check=True, env=style)
        return [nodes.image(uri=f"/_figures/{file}", alt=self.options.get("alt", name))]


class Measured(Directive):
    """The rows of the benchmarks that are named, or all."""

    optional_arguments = 20

    def run(self):
        """As a list-table."""
        self.state.document.settings.record_dependencies.add(measured.__file__)
        lines = [".. list-table::", "   :header-rows: 1", "   :widths: 40 25 25 10", ""]
        for row in [measured.HEAD, *measured.rows(self.arguments)]:
            for place, text in enumerate(row):
                code = re.sub("`([^`]+)`", r"``\1``", text)
                lines.append(f"   {'  -' if place else '* -'} {code}")
        holder = nodes.Element()
        holder.document = self.state.document
        self.state.nested_parse(StringList(lines, source=__file__), 0, holder)
        return holder.children


def _table(columns, rows):
    group = nodes.tgroup("", *[nodes.colspec(colwidth=1) for _ in columns], cols=len(columns))
    group += nodes.thead("", _row(columns))
    group += nodes.tbody("", *[_row([_text(row[name]) for name in columns]) for row in rows])
    return nodes.table("", group)


def _row(texts):
    return nodes.row("", *[nodes.entry("", nodes.paragraph(text=text)) for text in texts])


def _text(value):
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)


def setup(app):
    """Called by Sphinx."""
    app.add_directive("results", Results)
    app.add_directive("drawn", Drawn)
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True}
