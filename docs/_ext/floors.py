"""``.. floors::``: the picture of the modules on their floors, drawn from the imports while the page is read."""

from pathlib import Path

import house
from docutils import nodes
from docutils.parsers.rst import Directive


class Floors(Directive):
    """The picture, drawn while the page is read."""

    def run(self):
        env = self.state.document.settings.env
        for module in house.modules().values():
            self.state.document.settings.record_dependencies.add(str(module))
        path = Path(env.srcdir) / "_figures" / "floors.png"
        path.parent.mkdir(exist_ok=True)
        house.draw(path)
        return [nodes.image(uri="/_figures/floors.png", alt="the modules on their floors, and what imports what")]


def setup(app):
    """Called by Sphinx."""
    app.add_directive("floors", Floors)
    return {"parallel_read_safe": True}
