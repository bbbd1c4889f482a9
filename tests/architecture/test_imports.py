"""The shape of the code: no import circle, no module over 400 lines, no folder over 16 modules."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from benchmarks.harness.processes import REPOSITORY

ROOTS: Final = ("bandit", "server", "benchmarks", "tests")
MOST_LINES: Final = 400
MOST_FUNCTION_LINES: Final = 40
MOST_MODULES: Final = 16
CROWDED: Final[Mapping[str, str]] = {}
"""Folders that may hold more modules, mapped to the reason."""


def modules_below(root: Path) -> dict[str, Path]:
    """Return dotted name to file for every module of the four packages."""
    files = (file for name in ROOTS for file in sorted((root / name).rglob("*.py")))
    names = {file: ".".join(file.relative_to(root).with_suffix("").parts) for file in files}
    return {name.removesuffix(".__init__"): file for file, name in names.items()}


def is_generated(text: str) -> bool:
    """True if a module states at its beginning that it was generated."""
    return "do not edit" in text[:400].lower()


def imported_names(text: str) -> Iterator[str]:
    """Return what a module imports anywhere: at its top, inside functions, and for type checkers only."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def prefixes(name: str) -> Iterator[str]:
    """Return a dotted name and the packages that contain it: importing it runs them all."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(len(parts), 0, -1))


def import_graph(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Map each module to its imports and the packages around them; its own packages only if it names them."""
    graph: dict[str, set[str]] = {}
    for name, file in modules.items():
        own = set(prefixes(name))
        needed = graph.setdefault(name, set())
        for imported in imported_names(file.read_text()):
            found = [each for each in prefixes(imported) if each in modules]
            needed.update(found[:1], set(found) - own)
    return graph


def find_circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules that import one another in a circle, the first again at the end; empty without one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


MODULES: Final = modules_below(REPOSITORY)


def test_there_is_no_import_circle() -> None:
    """No module imports itself, however indirectly."""
    graph = import_graph(MODULES)
    assert len(graph) > 500
    assert "server.store.tables.rewards" in graph["server.store.tables.reward_batch"]
    assert find_circle(graph) == []


@pytest.mark.parametrize(
    "text",
    [
        "import server.b",
        "from server import b",
        "from server.b import c",
        "def late():\n    from server.b import c",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from server.b import c",
    ],
)
def test_a_circle_would_be_found(text: str, tmp_path: Path) -> None:
    """A circle of two modules is found whichever way they import each other."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "a.py").write_text(text)
    (tmp_path / "server" / "b.py").write_text("from server.a import d\n")
    assert set(find_circle(import_graph(modules_below(tmp_path)))) == {"server.a", "server.b"}


def test_a_circle_through_a_package_would_be_found(tmp_path: Path) -> None:
    """A module that imports from its own package, which imports it, is found."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__init__.py").write_text("from server.a import b\n")
    (tmp_path / "server" / "a.py").write_text("from server import c\n")
    assert set(find_circle(import_graph(modules_below(tmp_path)))) == {"server", "server.a"}


def test_modules_are_short() -> None:
    """No module has more than 400 lines, except generated ones."""
    texts = {name: file.read_text() for name, file in MODULES.items()}
    lengths = {name: len(text.splitlines()) for name, text in texts.items() if not is_generated(text)}
    assert len(lengths) > 500
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def function_lengths(text: str) -> Iterator[tuple[str, int]]:
    """Name and lines of every function, its docstring left out."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            docstring = ast.get_docstring(node, clean=False)
            n_documenting = 0 if docstring is None else len(docstring.split("\n"))
            yield node.name, node.end_lineno - node.lineno + 1 - n_documenting


def test_functions_are_short() -> None:
    """A function of the product fits on a screen; migrations, which only list columns, may be longer."""
    texts = {name: file.read_text() for name, file in MODULES.items() if not name.startswith("tests.")}
    written = {
        name: text for name, text in texts.items() if not is_generated(text) and "migrations" not in name
    }
    lengths = {(name, *each) for name, text in written.items() for each in function_lengths(text)}
    assert len(lengths) > 2_000
    assert {each for each in lengths if each[2] > MOST_FUNCTION_LINES} == set()


def test_a_long_function_would_be_seen() -> None:
    """Lines are counted from `def` to the end, and a docstring for nothing."""
    text = 'def f():\n    """Do.\n\n    It.\n    """\n' + "    x = 1\n" * 3
    assert list(function_lengths(text)) == [("f", 4)]


def test_folders_are_small() -> None:
    """No folder has more than 16 modules, except those listed with a reason."""
    files = [file for file in MODULES.values() if file.name != "__init__.py"]
    folders = [file.parent.relative_to(REPOSITORY).as_posix() for file in files]
    counts = {folder: folders.count(folder) for folder in folders if not folder.startswith("tests")}
    assert {folder for folder, count in counts.items() if count > MOST_MODULES} == set(CROWDED)
