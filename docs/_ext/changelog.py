"""``.. changelog::``: CHANGELOG.md as a page, its headings as sections and its lists as lists, code in backticks as code."""

import re
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

FILE = Path(__file__).resolve().parents[2] / "CHANGELOG.md"


def as_rst(text):
    """The little of Markdown that a changelog has, as reStructuredText."""
    lines = []
    for line in text.splitlines()[1:]:
        line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line)
        heading = re.fullmatch(r"## (.*)", line)
        lines += [heading[1], "-" * len(heading[1])] if heading else [line]
    return lines


class Changelog(Directive):
    """The whole file, without its title."""

    def run(self):
        """Parse it where the directive stands."""
        self.state.document.settings.record_dependencies.add(str(FILE))
        section = nodes.section()
        section.document = self.state.document
        lines = as_rst(FILE.read_text(encoding="utf-8"))
        self.state.nested_parse(StringList(lines, source=str(FILE)), 0, section, match_titles=True)
        return section.children


def setup(app):
    """Called by Sphinx."""
    app.add_directive("changelog", Changelog)
    return {"parallel_read_safe": True}
