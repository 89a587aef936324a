"""The order of the gallery's pages: that in which docs/gallery.rst names them."""

import re
from functools import cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "gallery.rst"


@cache
def names():
    """The scripts that the page names, in its order."""
    return re.findall(r"^   \.\./examples/(plot_\w+\.py)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def place(path):
    """Where a script stands; one that the page does not name comes last."""
    name = Path(path).name
    return names().index(name) if name in names() else len(names())
