"""Everything that the server can log, answer and measure, collected from its source.

A run shows what happened; the source also shows what happens once a year. A call whose text can't be resolved
raises `UnresolvedError`, so that nothing is passed over.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

ANYTHING: Final = "…"
"""Placeholder for a value that a message gets at run time."""

AS_GIVEN: Final = "as given"
"""The level of an event whose level is a variable."""

_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
    "log": AS_GIVEN,
}
"""Methods of a logger, and the level under which each of them logs."""

_EVENT: Final = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_REASON: Final = re.compile(r"[A-Z]+(_[A-Z]+)*")
_METRIC: Final = re.compile(r"(bandit|grpc_server)_[a-z_]+")


class UnresolvedError(Exception):
    """A call whose text can't be resolved: write the text out there, or extend `Source.texts`."""


class Call(NamedTuple):
    """A call in the source, and the functions around it, the innermost last."""

    node: ast.Call
    functions: tuple[Function, ...]
    place: str

    @property
    def name(self) -> str:
        """The name of what is called, without its owner."""
        return _name_of(self.node.func)


class Source:
    """Parsed modules.

    Args:
        modules: Path to text.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        trees = {path: ast.parse(text) for path, text in modules.items()}
        self._nodes = [node for tree in trees.values() for node in ast.walk(tree)]
        self.calls = [call for path, tree in trees.items() for call in _calls(path, tree, ())]

    @classmethod
    def below(cls, folder: Path) -> "Source":
        """Return all modules below a folder."""
        return cls({str(path): path.read_text() for path in sorted(folder.rglob("*.py"))})

    def find_events(self) -> dict[str, set[str]]:
        """Return every event passed to structlog, with the levels that it may have."""
        found: dict[str, set[str]] = {}
        for call in self.calls:
            if levels := _levels(call):
                position = int(call.name == "log")  # functions whose first argument is the level
                for event in self._resolved(call, call.node.args[position], _EVENT):
                    found.setdefault(event, set()).update(levels)
        return found

    def find_reasons(self) -> set[str]:
        """Return every reason of an error on the wire: of services' errors and of failures made in place."""
        found = set()
        for node in self._nodes:
            if isinstance(node, ast.ClassDef):
                found |= {text for item in node.body if (text := _class_text(item, "reason"))}
        for call in self.calls:
            reason = _argument(call.node, 2, "reason")
            if call.name == "Failure" and reason is not None:
                found |= self._resolved(call, reason, _REASON)
        return found

    def find_metrics(self) -> set[str]:
        """Return every metric family, by the name that Prometheus shows: a counter ends in `_total`."""
        found = set()
        for call in self.calls:
            match call.node.args:
                case [ast.Constant(value=str(name)), *_] if _METRIC.fullmatch(name):
                    found.add(f"{name}_total" if "counter" in call.name.lower() else name)
        return found

    def find_texts(self) -> list[str]:
        """Return every text, with `…` for each value that is inserted."""
        found = []
        for node in self._nodes:
            match node:
                case ast.JoinedStr(values=values):
                    parts = [part.value if isinstance(part, ast.Constant) else ANYTHING for part in values]
                    found.append("".join(map(str, parts)))
                case ast.Constant(value=str(text)):
                    found.append(text)
        return found

    def texts(self, node: ast.expr, call: Call) -> set[str]:
        """Return the texts that an argument may have; empty if they can't be resolved.

        These are resolved: a text, a choice of texts, a text that ends with a parameter which is an
        enumeration, and a parameter for which callers pass a text.
        """
        match node:
            case ast.Constant(value=str(text)):
                return {text}
            case ast.IfExp(body=one, orelse=other):
                return self.texts(one, call) | self.texts(other, call)
            case ast.JoinedStr(
                values=[ast.Constant(value=str(beginning)), ast.FormattedValue(value=ast.Name(id=name))]
            ):
                return {beginning + end for end in self._enumerated(_parameters(call).get(name, ""))}
            case ast.Name(id=name) if name in _parameters(call):
                return self._given(call.functions[-1].name, list(_parameters(call)).index(name), name)
        return set()

    def _resolved(self, call: Call, node: ast.expr, form: re.Pattern[str]) -> set[str]:
        texts = self.texts(node, call)
        if not texts or not all(form.fullmatch(text) for text in texts):
            raise UnresolvedError(f"{call.place}: {ast.unparse(call.node)[:80]}")
        return texts

    def _enumerated(self, name: str) -> set[str]:
        """Return the values of the enumeration of this name."""
        classes = (node for node in self._nodes if isinstance(node, ast.ClassDef) and node.name == name)
        return {
            item.value.value
            for each in classes
            for item in each.body
            if isinstance(item, ast.Assign)
            and isinstance(item.value, ast.Constant)
            and isinstance(item.value.value, str)
        }

    def _given(self, function: str, position: int, name: str) -> set[str]:
        """Return the texts that callers of a function pass for one of its parameters."""
        given: set[str] = set()
        for call in self.calls:
            argument = _argument(call.node, position, name) if call.name == function else None
            if argument is not None:
                given |= self.texts(argument, call)
        return given


def _calls(path: str, node: ast.AST, functions: tuple[Function, ...]) -> Iterator[Call]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        functions = (*functions, node)
    if isinstance(node, ast.Call):
        yield Call(node, functions, f"{path}:{node.lineno}")
    for child in ast.iter_child_nodes(node):
        yield from _calls(path, child, functions)


def _name_of(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _parameters(call: Call) -> dict[str, str]:
    """Return the parameters of the innermost function around a call, in order, with their annotations."""
    if not call.functions:
        return {}
    arguments = call.functions[-1].args
    found = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {
        each.arg: ast.unparse(each.annotation) if each.annotation else ""
        for each in found
        if each.arg not in {"self", "cls"}
    }


def _argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    by_name = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return next(iter(by_name or call.args[position : position + 1]), None)


def _class_text(item: ast.stmt, name: str) -> str:
    """Return the text that a statement of a class body assigns to a name; empty for other statements."""
    match item:
        case (
            ast.Assign(targets=[ast.Name(id=found)], value=ast.Constant(value=str(text)))
            | ast.AnnAssign(target=ast.Name(id=found), value=ast.Constant(value=str(text)))
        ) if found == name:
            return text
    return ""


def _levels(call: Call) -> set[str]:
    """Return the levels of a call of a logger's method, also by another name; empty for every other call."""
    match call.node.func:
        case ast.Attribute():
            return _method_levels(call.node.func)
        case ast.Name(id=alias) if call.functions:
            return {
                level
                for node in ast.walk(call.functions[-1])
                if isinstance(node, ast.Assign) and alias in map(_name_of, node.targets)
                for part in ast.walk(node.value)
                for level in _method_levels(part)
            }
    return set()


def _method_levels(node: ast.AST) -> set[str]:
    match node:
        case ast.Attribute(
            value=ast.Name(id="log") | ast.Call(func=ast.Attribute(attr="get_logger")), attr=method
        ):
            return {_LEVELS[method]} if method in _LEVELS else set()
    return set()
