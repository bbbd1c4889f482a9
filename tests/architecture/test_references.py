"""Prose in code names what exists: a name in backticks is a module, a member of it, or a word of the code."""

import ast
import builtins
import io
import keyword
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from benchmarks.harness.processes import REPOSITORY
from tests.architecture.test_imports import MODULES, ROOTS, is_generated

IN_BACKTICKS: Final = re.compile(r"(?<!`)(`{1,2})([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\1(?!`)")
WORD: Final = re.compile(r"[A-Za-z_]\w*")
FILE_NAME: Final = re.compile(r"\w+\.(?:py|proto|md|sql|toml)")
OF_FORMULAS: Final = frozenset({"Phi", "e_", "share_a"})
OF_VARIABLES: Final = frozenset({"client.admin", "client.experiments", "experiment.etag"})
"""Attributes of variables that are called like a module."""

PAGES: Final = (".github/ADDING.md", ".github/CONTRIBUTING.md", "bandit/README.md", "tests/README.md")
OF_EXAMPLES: Final = frozenset(
    {
        "METRIC_KIND_NAME",
        "_pb2.pyi",
        "_pb2_grpc.py",
        "_pb2_grpc.pyi",
        "arm_to_stats",
        "generated",
        "is_active",
    }
)
"""On those pages: names to be chosen, endings of file names, and a step of `.ci/run`."""


def prose_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.Constant]:
    """Docstrings, and other strings that are statements."""
    for node in nodes:
        match node:
            case ast.Expr(ast.Constant(str()) as constant):
                yield constant


def prose_of(text: str) -> Iterator[str]:
    """Docstrings, and comments."""
    yield from (str(node.value) for node in prose_nodes(ast.walk(ast.parse(text))))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    yield from (token.string for token in tokens if token.type == tokenize.COMMENT)


def words_of(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Identifiers, and the words of strings without spaces; prose is left out."""
    prose = set(map(id, prose_nodes(nodes)))
    for node in nodes:
        match node:
            case ast.Name(word) | ast.Attribute(attr=word) | ast.arg(word) | ast.keyword(str(word)):
                yield word
            case ast.FunctionDef(word) | ast.AsyncFunctionDef(word) | ast.ClassDef(word):
                yield word
            case ast.ImportFrom(str(names)) | ast.alias(names):
                yield from names.split(".")
            case ast.Constant(str(value)) if " " not in value and id(node) not in prose:
                yield from (value, *WORD.findall(value))


def bound_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """What a module or class binds, and what its methods set on `self`."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                yield name
            case ast.Name(name, ast.Store()) | ast.Attribute(ast.Name("self"), name, ast.Store()):
                yield name
            case ast.alias(name, other):
                yield (other or name).split(".")[0]


class Code:
    """The names that code has.

    Args:
        modules: Dotted name to file.
        other_words: Further words that are known.
    """

    def __init__(self, modules: Mapping[str, Path], other_words: frozenset[str] = frozenset()) -> None:
        self.words = {*dir(builtins), *keyword.kwlist, *other_words}
        self.bound: dict[str, set[str]] = {}
        self.classes: dict[str, set[str]] = {}
        self.bases: dict[str, set[str]] = {}
        for name, file in modules.items():
            nodes = list(ast.walk(ast.parse(file.read_text())))
            self.words.update(words_of(nodes), name.split("."))
            self.bound[name] = set(bound_in(nodes))
            for node in nodes:
                if isinstance(node, ast.ClassDef):
                    self.classes.setdefault(node.name, set()).update(bound_in(ast.walk(node)))
                    bases = {WORD.findall(ast.unparse(base).partition("[")[0])[-1] for base in node.bases}
                    self.bases.setdefault(node.name, set()).update(bases)
        self.packages = {name.rpartition(".")[0] for name in modules} - {""}
        self.files = {file.name for file in modules.values()}

    def has(self, name: str) -> bool:
        """Whether a name in backticks stands for something."""
        first, _, rest = name.partition(".")
        if name in self.words or FILE_NAME.fullmatch(name):
            return name in self.words or name in self.files
        if not rest:
            return False
        if first in ROOTS:
            return self._is_below(name)
        if first in self.classes:
            return self._has_member(first, rest.partition(".")[0])
        modules = [module for module in self.bound if f".{module}".endswith(f".{first}")]
        if modules:
            return any(self._is_below(f"{module}.{rest}") for module in modules)
        return all(part in self.words for part in name.split("."))

    def _is_below(self, name: str) -> bool:
        """Whether a dotted name from the top is a package, a module, or in one; members are of a class."""
        if name in self.bound or name in self.packages:
            return True
        module, _, last = name.rpartition(".")
        if module in self.bound:
            return last in self.bound[module]
        return module.rpartition(".")[2] in self.classes and self._has_member(module.rpartition(".")[2], last)

    def _has_member(self, of: str, member: str) -> bool:
        """Whether a class, or one that it inherits from, has a member; a foreign class may have any."""
        if of not in self.classes:
            return of not in {"ABC", "Generic", "Protocol"}
        return member in self.classes[of] or any(
            self._has_member(base, member) for base in self.bases[of] - {of}
        )


def unknown_names(code: Code, *prose: str) -> list[str]:
    """The names in backticks that stand for nothing."""
    names = [match[2] for text in prose for match in IN_BACKTICKS.finditer(text)]
    return [name for name in names if not code.has(name)]


@pytest.fixture(scope="module")
def code() -> Code:
    """The whole repository's; the wire, the tables of old releases and settings files have words too."""
    folders = [REPOSITORY / name for name in (*ROOTS, "protos", ".github")]
    files = [*REPOSITORY.iterdir(), *(file for folder in folders for file in folder.rglob("*"))]
    others = [file for file in files if file.suffix in {".proto", ".sql", ".toml", ".md"}]
    texts = [file.read_text() for file in others if file.suffix != ".md"]
    words = {word for text in texts for word in WORD.findall(text)} | {file.name for file in others}
    return Code(MODULES, frozenset({*words, *OF_FORMULAS, *OF_VARIABLES}))


def test_names_in_backticks_exist(code: Code) -> None:
    """In docstrings and comments of every module that no program wrote."""
    texts = {name: file.read_text() for name, file in MODULES.items()}
    written = {name: text for name, text in texts.items() if not is_generated(text)}
    found = {name: unknown_names(code, *prose_of(text)) for name, text in written.items()}
    assert {name: unknown for name, unknown in found.items() if unknown} == {}


@pytest.mark.parametrize("page", PAGES)
def test_names_on_pages_about_the_code_exist(code: Code, page: str) -> None:
    """What a contributor is told to open or to change is there."""
    assert set(unknown_names(code, (REPOSITORY / page).read_text())) <= OF_EXAMPLES


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("server.a", True),
        ("server.a.Thing.part", True),
        ("Thing.inherited", True),
        ("a.make", True),
        ("make", True),
        ("a.py", True),
        ("server.b", False),
        ("server.a.gone", False),
        ("Thing.gone", False),
        ("a.gone", False),
        ("gone", False),
        ("b.py", False),
    ],
)
def test_a_name_that_is_gone_would_be_seen(name: str, *, exists: bool, tmp_path: Path) -> None:
    """A module, a member of a module or class, a word, or a file."""
    file = tmp_path / "a.py"
    file.write_text(
        f'"""About `{name}`."""\n\n\n'
        "class Base:\n    inherited = 1\n\n\n"
        "class Thing(Base):\n    def __init__(self):\n        self.part = 1\n\n\n"
        "def make():\n    return Thing()\n"
    )
    assert (unknown_names(Code({"server.a": file}), *prose_of(file.read_text())) == []) is exists
