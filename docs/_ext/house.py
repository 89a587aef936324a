"""What the source says about its own order: modules, floors, imports, and a picture of them.

Which module stands on which floor is written in pyproject.toml, ``[tool.sksid] floors``; tests/test_house.py checks it.
"""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sksid"
FACE = "sksid"  # the package itself: it re-exports, and nothing imports it


def floors():
    """The rooms of each floor, from the ground up, as full module names; the package's face is the roof."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["sksid"]["floors"]
    return [[f"sksid.{room}" for room in floor] for floor in table] + [[FACE]]


def modules():
    """The file of each module, by its full name."""
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sorted(PACKAGE.rglob("*.py"))}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imports_of(path):
    """Full names of all that a file imports, also inside functions: ``a.b`` of ``from a import b``."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
    return names


def own_imports(path):
    """The modules of sksid that a file imports."""
    known = modules()
    names = [name for name in imports_of(path) if name.split(".")[0] == "sksid"]
    return {name if name in known or name.startswith("sksid._kernels") else name.rpartition(".")[0] for name in names}


def room_of(module):
    """The room of a module: itself, or the package that it stands in."""
    rooms = {room for floor in floors() for room in floor}
    while module not in rooms - {FACE} and "." in module:
        module = module.rpartition(".")[0]
    return module


def edges():
    """Pairs (room, room it imports from), without those inside one room."""
    found = {(room_of(name), room_of(other)) for name, path in modules().items() for other in own_imports(path)}
    return sorted((room, other) for room, other in found if room != other)


def draw(path):
    """Draw the rooms floor by floor, and below or to the left of each a line to what it imports, in its own color."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8))
    axes = figure.add_axes((0, 0, 1, 1))
    place = {}
    for level, floor in enumerate(floors()):
        axes.axhspan(level - 0.42, level + 0.42, color="0.95" if level % 2 else "0.98", zorder=0)
        axes.text(0.01, level, level if floor != [FACE] else "", va="center", color="0.5", fontsize=13)
        shift = 0.06 * (-1) ** level  # rooms that stand exactly above each other would hide their lines
        for number, room in enumerate(floor):
            place[room] = (0.06 + 0.92 * (number + 0.5) / len(floor) + shift, level)
    for room, other in edges():
        (_, level), (_, below) = place[room], place[other]
        bend = -0.35 if level == below else 0.06
        line = {"arrowstyle": "-", "color": f"C{level % 10}", "alpha": 0.6, "connectionstyle": f"arc3,rad={bend}"}
        axes.annotate("", place[other], place[room], arrowprops=line, zorder=1)
    for room, (x, y) in place.items():
        name = room.removeprefix("sksid.") + ("/" if (PACKAGE / room.rpartition(".")[2]).is_dir() else "")
        frame = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": f"C{y % 10}"}
        axes.text(x, y, name, ha="center", va="center", fontsize=11, family="monospace", bbox=frame, zorder=2)
    axes.set(xlim=(0, 1), ylim=(-0.5, len(floors()) - 0.5))
    axes.axis("off")
    figure.savefig(path, dpi=120)
