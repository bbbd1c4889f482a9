"""Pages are correct: the commands, flags, modules, settings, examples and links in them exist."""

import ast
import doctest
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import click
import pytest

from server.cli.main import cli
from server.settings import Settings
from tests.docs.pages import PAGES, ROOT, Page

pages: Final = pytest.mark.parametrize("page", PAGES, ids=str)

SOURCE_FILE: Final = re.compile(r"(?<![\w/.=-])(?:[\w-]+/)+[\w.-]+\.(?:py|proto|md)\b")
HERE_DOCUMENT: Final = re.compile(r"<<-?'?(\w+)'?(.*?)\n.*?^\1$", re.MULTILINE | re.DOTALL)
MODULE: Final = re.compile(r"python3? -m (server|(?:benchmarks|server)(?:\.[a-z_]+)+)")
OF_TWO_WORDS: Final = re.compile(r"(?:clock|experiment|key|token) [a-z|]+(?: [A-Z-].*)?")

OF_OTHER_PROGRAMS: Final = frozenset(
    {
        "--against",  # buf
        "--durations",  # pytest
        "--fix",  # ruff
        "--go-grpc_opt",  # protoc
        "--go_opt",  # protoc
        "--hypothesis-profile",  # pytest
    }
)


@cache
def command_at(path: tuple[str, ...]) -> click.Command | None:
    """Return the command of this path; None if it does not exist."""
    command: click.Command | None = cli
    for name in path:
        if not isinstance(command, click.Group):
            return None
        command = command.get_command(click.Context(command), name)
    return command


def flags_of(command: click.Command) -> set[str]:
    """Return the flags of a command."""
    own = (flag for param in command.params for flag in (*param.opts, *param.secondary_opts))
    return {*own, "--help", "-h"}


@cache
def every_command() -> tuple[click.Command, ...]:
    """Return all commands, at every depth."""
    found: list[click.Command] = []
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        path = waiting.pop()
        command = command_at(path)
        assert command is not None
        found.append(command)
        if isinstance(command, click.Group):
            waiting += [(*path, name) for name in command.list_commands(click.Context(command))]
    return tuple(found)


@cache
def every_flag() -> frozenset[str]:
    """Return the flags of all commands, and of the other programs, whose source has them as strings."""
    found = set(OF_OTHER_PROGRAMS).union(*map(flags_of, every_command()))
    for program in [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "protos").rglob("*.py")]:
        found |= set(re.findall(r"[\"/](--[a-z][a-z-]+)", program.read_text()))
    return frozenset(found)


@cache
def every_variable() -> frozenset[str]:
    """Return the environment variables of settings and commands."""
    settings = {f"BANDIT_{name.upper()}" for name in Settings.model_fields}
    named = (param.envvar for command in every_command() for param in command.params)
    read = {variable for variable in named if isinstance(variable, str)}
    return frozenset({*settings, *read, "BANDIT_TOKEN"})


def unknown(words: list[str]) -> str:
    """Return what is wrong with the words after `bandit-server`; empty if they are valid."""
    path: tuple[str, ...] = ()
    while words and command_at((*path, words[0])) is not None:
        path = (*path, words.pop(0))
    command = command_at(path)
    assert command is not None
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        return f"no command: {' '.join([*path, words[0]])}"
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    missing = [flag for flag in flags if flag not in flags_of(command)]
    return f"{' '.join(path)} has no {', '.join(missing)}" if missing else ""


def commands_of(shell: str) -> Iterator[list[str]]:
    """Yield the words after `bandit-server` in each command of a shell script."""
    script = HERE_DOCUMENT.sub(r"\2", shell).replace("\\\n", " ")
    for line in script.splitlines():
        words: list[str] | None = None
        for word in [*shlex.shlex(line, posix=True, punctuation_chars=True), ";"]:
            if set(word) <= set("();<>|&"):
                yield from [] if words is None else [words]
                words = None
            elif words is not None:
                words.append(word)
            elif Path(word).name == "bandit-server":
                words = []


def named(page: Page) -> Iterator[list[str]]:
    """Yield the words after `bandit-server` in prose, which commands of two words may leave out."""
    for span in page.spans:
        words = span.removeprefix("bandit-server ").split()
        if OF_TWO_WORDS.fullmatch(" ".join(words)):
            yield from ([words[0], name, *words[2:]] for name in words[1].split("|"))
        elif span.startswith("bandit-server ") and not span.startswith("bandit-server is "):  # what it prints
            yield words


@pages
def test_commands_exist(page: Page) -> None:
    """Every `bandit-server` command in shell blocks and prose exists, with its flags."""
    wrong = [unknown(words) for block in page.blocks("sh") for words in commands_of(block)]
    wrong += [unknown(words) for words in named(page)]
    assert list(filter(None, wrong)) == []


def test_unknown_commands_are_found() -> None:
    """Commands and flags that do not exist are found."""
    assert unknown(["serve", "--listen", "127.0.0.1:0"]) == ""
    assert unknown(["experiment", "apply", "ranker.toml", "--dry-run"]) == ""
    assert unknown(["experiment", "aply", "ranker.toml"]) == "no command: experiment aply"
    assert unknown(["serve", "--listn=127.0.0.1:0"]) == "serve has no --listn"
    shell = "a && BANDIT_X=1 .venv/bin/bandit-server key list > 'a; b' # c\ncat <<'E' | sed 1d\nit's a\nE\n"
    assert list(commands_of(shell)) == [["key", "list"]]


@pages
def test_flags_exist(page: Page) -> None:
    """Every flag in prose belongs to a program of this repository."""
    flags = {flag for span in page.spans for flag in re.findall(r"(?:^|[ (])(--[a-z][\w-]*)", span)}
    assert flags - every_flag() == set()


@pages
def test_settings_exist(page: Page) -> None:
    """Every variable `BANDIT_...` is a setting, or is read by a command."""
    assert set(re.findall(r"\bBANDIT_[A-Z_]*[A-Z]\b", page.text)) - every_variable() == set()


@pages
def test_modules_exist(page: Page) -> None:
    """Every module after `python -m`, and every benchmark named in prose, exists."""
    run = {name for name in MODULE.findall(page.text) if not is_runnable(name)}
    spans = [span.split(" ")[0] for span in page.spans]
    named = {name for name in spans if re.fullmatch(r"benchmarks(\.[a-z_]+)+", name)}
    assert run | {name for name in named if not is_module(name)} == set()


def is_runnable(name: str) -> bool:
    """True if `python -m` can run it."""
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


def is_module(name: str) -> bool:
    """True if the module or package exists."""
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or path.is_dir()


@pages
def test_shell_is_marked_as_such(page: Page) -> None:
    """Shell blocks are marked `sh`, as others would not be checked."""
    assert page.languages & {"bash", "console", "shell", "zsh"} == set()


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.code], ids=str)
def test_sessions_pass(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter sessions of a page, run as one session, print what they show."""
    monkeypatch.chdir(ROOT)
    session = doctest.DocTestParser().get_doctest(page.code, {}, str(page), str(page), 0)
    printed: list[str] = []
    done = doctest.DocTestRunner(verbose=False).run(session, out=printed.append)
    assert done.attempted
    assert not done.failed, "".join(printed)


@pages
def test_python_blocks_import_existing_names(page: Page) -> None:
    """Python blocks parse, and the names that they import from this repository exist."""
    for block in page.blocks("python"):
        if ">>> " in block:
            continue
        imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)]
        for node in imports:
            if node.module and node.module.split(".")[0] in {"bandit", "server"}:
                module = importlib.import_module(node.module)
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pages
def test_toml_blocks_parse(page: Page) -> None:
    """TOML blocks are valid TOML."""
    for block in page.blocks("toml"):
        tomllib.loads(block)


@pages
def test_links_resolve(page: Page) -> None:
    """Every relative link leads to a file of this repository, and its anchor to a heading there."""
    assert [link for link in page.links if not leads_somewhere(page.path, link)] == []


def leads_somewhere(path: Path, link: str) -> bool:
    """True if a link on the page at `path` resolves."""
    name, has_anchor, anchor = link.partition("#")
    target = (path.parent / name).resolve() if name else path
    if not (target.exists() and target.is_relative_to(ROOT)):
        return False
    return not has_anchor or (target.suffix == ".md" and anchor in Page(target).anchors)


def test_broken_links_are_found(tmp_path: Path) -> None:
    """Anchors are made as on GitHub, and wrong anchors and missing files do not resolve."""
    page = tmp_path / "page.md"
    page.write_text("# What `it` isn't: a *test*\n\n## Twice\n\n## Twice\n\n```sh\n# no heading\n```\n")
    assert Page(page).anchors == {"what-it-isnt-a-test", "twice", "twice-1"}
    readme = ROOT / "README.md"
    assert leads_somewhere(readme, "#quick-start")
    assert leads_somewhere(readme, "server/docs/clocks.md#clocks")
    assert not leads_somewhere(readme, "server/docs/clocks.md#clock")
    assert not leads_somewhere(readme, "server/docs/clock.md")
    assert not leads_somewhere(readme, "../elsewhere.md")


@pages
def test_named_files_exist(page: Page) -> None:
    """Every file that a page names by its path exists, from the root, the page's folder or the one above."""
    named = {path for path in SOURCE_FILE.findall(page.text) if "NAME" not in path and "vNNNN" not in path}
    folders = (ROOT, page.path.parent, page.path.parent.parent)
    assert {path for path in named if not any((folder / path).exists() for folder in folders)} == set()
