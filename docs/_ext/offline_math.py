"""MathJax that travels with the site: copied out of the package sphinx-mathjax-offline, so that a page asks no other server.

That package's own extension copies 24 MB, speech and drawing included; here go the renderer, its fonts and the parts of TeX
that load when a formula needs them.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")


def copy(app, error):
    """After a build of HTML."""
    if error is None and app.builder.format == "html":
        home = Path(find_spec("sphinx-mathjax-offline").submodule_search_locations[0]) / "static" / "mathjax"
        for part in PARTS:
            source, target = home / part, Path(app.outdir) / "_static" / "mathjax" / part
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)


def setup(app):
    """Called by Sphinx."""
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True}
