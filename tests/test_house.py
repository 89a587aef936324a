"""The house's order, read from its source: floors, sizes, privacy, words, public signatures, scikit-learn's private names."""

import ast
import dataclasses
import graphlib
import importlib
import inspect
import re
import sys
from functools import cached_property
from pathlib import Path

import pytest

from sksid import _sklearn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

import house  # noqa: E402

MODULES = house.modules()
SOURCES = sorted(path for path in house.PACKAGE.rglob("*") if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".h", ".c"})
PAGES = [page for folder in ("docs", "docs/guide") for page in sorted((ROOT / folder).glob("*.rst"))]
TEXTS = [*SOURCES, *PAGES, *sorted((ROOT / "examples").rglob("*.py")), ROOT / "README.md"]
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 50  # its docstring not among them
PUBLIC = [module for module in MODULES if "._" not in module]
PUBLIC_IN_SKLEARN = {"sklearn.base._fit_context", "sklearn.utils._safe_indexing"}  # documented, in spite of their names

OUR_OWN_WORDS = r"rungs?|ladders?|climb(s|ed|ing)?|monitor(s|ed|ing)?|stiffness|astray|roughly"  # of things that have a name
BRITISH = (
    r"\w*(optimis(?![tm])|penalis|normalis|standardis|minimis|maximis|regularis|factoris|initialis|generalis|behaviour|honour)"
)
WATCHED = {
    *_sklearn.PRIVATE_METHODS,
    "_scorers",
    "_getframe",
    "_AUTOLOGGING_GLOBALLY_DISABLED",  # of mlflow, see test_clients.py
}  # private names of others; those of scikit-learn are tested in test_private_names.py
DOCUMENTS_ELSEWHERE = r"\b(method|paper|house|ecosystem)\.md\b"  # of the developers: a clone does not hold them


def short(path):
    return str(path.relative_to(ROOT))


def places(path, pattern):
    """Lines of a text on which a pattern is found, for a message."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [f"{short(path)}:{n}: {line.strip():.90}" for n, line in enumerate(lines, 1) if re.search(pattern, line)]


def report(found):
    """All findings, each on a line of its own."""
    return f"{len(found)} found:\n" + "\n".join(map(str, found))


# ---- floors -------------------------------------------------------------------------------------------------------------


def test_every_module_has_a_room_and_every_room_a_module():
    rooms = {room for floor in house.floors() for room in floor}
    assert {house.room_of(module) for module in MODULES} == rooms


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_floors_or_from_its_left(module):
    order = {room: (level, place) for level, floor in enumerate(house.floors()) for place, room in enumerate(floor)}
    own = order[house.room_of(module)]
    above = {name for name in house.own_imports(MODULES[module]) if order[house.room_of(name)] > own}
    assert not above


def test_imports_have_no_cycle():
    graph = {module: house.own_imports(path) - {module} for module, path in MODULES.items()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


def test_imports_are_absolute():
    assert not [name for path in MODULES.values() for name in house.imports_of(path) if name.startswith(".")]


def test_lower_floors_know_nothing_of_the_search_estimators():
    below = {room for floor in house.floors()[:6] for room in floor} - {"sksid._sklearn"}  # the descent and what it stands on
    knowing = {
        module
        for module, path in MODULES.items()
        if house.room_of(module) in below and any(name.startswith("sklearn.model_selection") for name in house.imports_of(path))
    }
    assert not knowing


def test_the_picture_of_the_floors_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    house.draw(tmp_path / "floors.png")
    assert (tmp_path / "floors.png").stat().st_size > 10_000
    assert len(house.edges()) > 20


# ---- sizes --------------------------------------------------------------------------------------------------------------


def python_functions(path):
    """Name, first line and length, without the docstring, of every function of a Python file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node, clean=False) is not None
            doc = first.end_lineno - first.lineno + 1 if documented else 0
            yield node.name, node.lineno, node.end_lineno - node.lineno + 1 - doc


def cython_functions(path):
    """The same of a Cython file: from a ``def`` or ``cdef`` to the next line that is not deeper."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if found := re.match(r"( *)(?:cdef|cpdef|def)\b[^=]*?(\w+)\(", line):
            deeper = re.compile(rf" {{{len(found[1]) + 1},}}|\s*$|{found[1]}\)")
            end = next((n for n in range(number + 1, len(lines)) if not deeper.match(lines[n])), len(lines))
            yield found[2], number + 1, len("\n".join(lines[number:end]).rstrip().splitlines())


def c_functions(path):
    """The same of a C file: a function begins in the first column, and ends with the next brace there."""
    start = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if start is None and (found := re.match(r"[A-Za-z_][^;]*?(\w+)\(", line)) and not line.endswith(";"):
            start = found[1], number
        if start and line.startswith("}"):
            yield *start, number - start[1] + 1
            start = None
        elif start and line.endswith(");"):  # a declaration
            start = start if line.startswith(" ") else None


READERS = {".py": python_functions, ".pyx": cython_functions, ".h": c_functions, ".c": c_functions}


def test_no_file_is_too_long():
    sizes = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert sum(sizes.values()) > 3000
    long = [f"{name}: {size} lines" for name, size in sizes.items() if size > LINES_OF_A_FILE]
    assert not long, report(long)


def test_no_function_is_too_long():
    read = [path for path in SOURCES if path.suffix in READERS]
    found = [(short(path), *function) for path in read for function in READERS[path.suffix](path)]
    assert {Path(path).suffix for path, *_ in found} >= {".py", ".pyx", ".h"}
    long = [f"{path}:{line} {name}: {length} lines" for path, name, line, length in found if length > LINES_OF_A_FUNCTION]
    assert not long, report(long)


# ---- privacy ------------------------------------------------------------------------------------------------------------


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def private_imports(module):
    """What is imported from another module by a private name, or from a private module of another package."""
    for name in house.imports_of(MODULES[module]):
        home, _, last = name.rpartition(".")
        package, _, stem = home.rpartition(".")
        if name.split(".")[0] != "sksid" or name in MODULES or "sksid._kernels" in (home, package):
            continue
        if is_private(last) or (is_private(stem) and not f"{module}.".startswith(f"{package}.")):
            yield name


def names_of_its_own(tree):
    """Names that a file makes: functions, classes, variables, attributes, and what it imports."""
    names = {alias.asname or alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.id if isinstance(node, ast.Name) else node.attr)
    return names


def private_attributes(module):
    """Private attributes that are asked of anything but ``self``, and that the module has not made itself."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    own = names_of_its_own(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "hasattr", "setattr"}:
            owner, name = node.args[0], str(getattr(node.args[1], "value", ""))
        else:
            continue
        of_itself = getattr(owner, "id", "") in {"self", "cls"} or getattr(getattr(owner, "func", None), "id", "") == "super"
        if is_private(name) and name not in own | WATCHED and not of_itself:
            yield f"{module}:{node.lineno} {ast.unparse(node)}"


def test_nobody_imports_a_private_name_of_another_module():
    found = [f"{module} imports {name}" for module in MODULES for name in private_imports(module)]
    assert not found, report(found)


def test_nobody_asks_for_a_private_attribute_of_another_module():
    found = [place for module in MODULES if module != "sksid._sklearn" for place in private_attributes(module)]
    assert not found, report(found)


# ---- words --------------------------------------------------------------------------------------------------------------


def test_things_bear_the_names_of_the_field():
    found = [place for path in TEXTS for place in places(path, rf"(?<![A-Za-z])(?i:{OUR_OWN_WORDS})(?![A-Za-z])")]
    assert not found, report(found)


def test_spelling_is_american():
    found = [place for path in TEXTS for place in places(path, rf"(?i)\b{BRITISH}")]
    assert not found, report(found)


def test_nothing_refers_to_what_a_clone_does_not_hold():
    tests = [path for path in sorted((ROOT / "tests").glob("*.py")) if path.name != Path(__file__).name]
    found = [place for path in [*TEXTS, *tests] for place in places(path, DOCUMENTS_ELSEWHERE)]
    assert not found, report(found)


# ---- public names -------------------------------------------------------------------------------------------------------


def public_names():
    """Each public function and class, by the name under which its module shows it."""
    for module in PUBLIC:
        face = importlib.import_module(module)
        names = getattr(face, "__all__", None) or [name for name in vars(face) if not name.startswith("_")]
        home = "sksid" if hasattr(face, "__all__") else module
        for name in sorted(names):
            value = getattr(face, name)
            if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith(home):
                yield f"{module}.{name}", value


NAMES = dict(public_names())


def signatures(name, value):
    """Each function that a reader of a public name may call."""
    if inspect.isfunction(value):
        yield name, value
        return
    made_by_hand = not dataclasses.is_dataclass(value) and not issubclass(value, Exception)
    for attribute, member in vars(value).items():
        if isinstance(member, cached_property):
            member = member.func
        function = inspect.unwrap(getattr(member, "__func__", None) or getattr(member, "fget", None) or member)
        called = not attribute.startswith("_") or attribute == "__call__" or (made_by_hand and attribute == "__init__")
        if called and inspect.isfunction(function) and function.__module__.startswith("sksid"):
            yield f"{name}.{attribute}", function


def unannotated(name, function):
    """The parameters of a function, and its result, that have no annotation."""
    signature = inspect.signature(function)
    for number, parameter in enumerate(signature.parameters.values()):
        if parameter.annotation is parameter.empty and not (number == 0 and parameter.name in {"self", "cls"}):
            yield f"{name}: {parameter.name}"
    if signature.return_annotation is signature.empty and not name.endswith(".__init__"):
        yield f"{name}: what it returns"


def names_of_the_api():
    """What docs/api.rst lists: the names that a reader is shown."""
    module, names = "", []
    for line in (ROOT / "docs" / "api.rst").read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.removeprefix(".. currentmodule:: ")
        elif re.fullmatch(r"   \w[\w.]*", line):
            names.append(f"{module}.{line.strip()}")
    return names


def shown(name):
    """What a dotted name of the API stands for."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_the_api_has_names_of_public_modules_only():
    assert len(names_of_the_api()) > 20
    elsewhere = [name for name in names_of_the_api() if not any(shown(name) is value for value in NAMES.values())]
    assert not elsewhere


def test_the_api_shows_something_of_every_public_module():
    shown_from = {name.rpartition(".")[0] for name in names_of_the_api()} | {
        shown(name).__module__ for name in names_of_the_api()
    }
    assert [
        module for module in PUBLIC if module not in shown_from and not hasattr(importlib.import_module(module), "__path__")
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_public_signature_is_annotated(name):
    missing = [text for called, function in signatures(name, NAMES[name]) for text in unannotated(called, function)]
    assert not missing, report(missing)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring_of_its_own(name):
    doc = NAMES[name].__doc__
    assert doc and not doc.startswith(f"{name.rpartition('.')[2]}(")


@pytest.mark.parametrize("name", names_of_the_api())
def test_every_name_of_the_api_has_an_example(name):
    value = shown(name)
    abstract = inspect.isclass(value) and (issubclass(value, Exception) or getattr(value, "_is_protocol", False))
    handed_out = "    Attributes\n" in value.__doc__ and "    Parameters\n" not in value.__doc__  # by what has an example
    assert abstract or handed_out or ">>> " in value.__doc__, f"the docstring of {name} has no example"


# ---- scikit-learn's private names ---------------------------------------------------------------------------------------


def test_private_names_of_scikit_learn_are_in_one_module():
    private = {
        (module, name)
        for module, path in MODULES.items()
        for name in house.imports_of(path)
        if name.startswith("sklearn.") and any(part.startswith("_") for part in name.split("."))
    }
    elsewhere = {(module, name) for module, name in private if module != "sksid._sklearn" and name not in PUBLIC_IN_SKLEARN}
    assert not elsewhere
