"""The tokens file: its contents, its errors, and how a token is added."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.cli.main import cli
from server.services.access.callers import (
    ANYONE,
    TOKEN_PREFIX,
    Caller,
    Directory,
    Role,
    digest_of,
    format_hash,
    new_token,
)
from server.services.access.tokens_file import TokensFileError, load_tokens, parse_tokens
from server.services.errors import PermissionDeniedError
from server.services.runtime.reloading_file import ReloadingFile

HASH = format_hash(digest_of("bandit_one"))
OTHER = format_hash(digest_of("bandit_two"))
COMPLETE = f"""
[[callers]]
name = "ranker@prod"
roles = ["choose", "reward"]
namespaces = ["team-a"]
token_hashes = ["{HASH}", "{OTHER}"]
certificate_names = ["ranker.prod"]
calls_per_second = 500
"""


def good(**changes: str) -> str:
    """Return a valid caller with some values replaced; an empty value leaves the key out."""
    lines = {"name": '"a"', "roles": '["viewer"]', "token_hashes": f'["{HASH}"]'} | changes
    return "[[callers]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items() if value)


def problems_of(text: str) -> tuple[str, ...]:
    """Return the problems of a file, which must have some."""
    with pytest.raises(TokensFileError) as caught:
        parse_tokens(text, "t.toml")
    return caught.value.problems


def test_every_key_of_a_file_is_read() -> None:
    """Each key of a caller is read, and missing keys have their defaults."""
    (caller,) = parse_tokens(COMPLETE, "t.toml").callers
    assert caller == Caller(
        name="ranker@prod",
        roles=frozenset({Role.CHOOSE, Role.REWARD}),
        namespaces=frozenset({"team-a"}),
        token_hashes=(digest_of("bandit_one"), digest_of("bandit_two")),
        certificate_names=frozenset({"ranker.prod"}),
        calls_per_second=500.0,
    )
    (plain,) = parse_tokens(good(), "t.toml").callers
    assert (plain.namespaces, plain.calls_per_second, plain.certificate_names) == (None, None, frozenset())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "t.toml: callers: must be one or more"),
        ("callers = 1", "t.toml: callers: must be one or more"),
        ("x = 1\n" + good(), "t.toml: x: no such key"),
        (good(name=""), "t.toml: callers[0].name: must match"),
        (good(name='"anyone"'), "t.toml: callers[0].name: must match"),
        (good(name='"two words"'), "t.toml: callers[0].name: must match"),
        (good(roles=""), "t.toml: callers[0].roles: must be a list of one or more of choose, reward"),
        (good(roles="[]"), "t.toml: callers[0].roles: must be a list"),
        (good(roles='["root"]'), "t.toml: callers[0].roles: must be a list"),
        (good(roles='"admin"'), "t.toml: callers[0].roles: must be a list"),
        (good(namespaces="[]"), "t.toml: callers[0].namespaces: must be a list"),
        (good(namespaces='["Team"]'), "t.toml: callers[0].namespaces: must be a list"),
        (good(namespace='["team-a"]'), "t.toml: callers[0].namespace: no such key"),
        (good(token_hashes=""), "t.toml: callers[0].token_hashes: must not be empty"),
        (good(token_hashes='["bandit_token"]'), "callers[0].token_hashes: must be a list"),  # noqa: S106
        (
            good(token_hashes=f'["{HASH}", "{OTHER}", "sha256:{"0" * 64}"]'),
            "token_hashes: must be a list of at",
        ),
        (
            good(certificate_names='["a\\u202eb"]'),
            "certificate_names: must be a list of names without control",
        ),
        (good(certificate_names='["\\u3000"]'), "certificate_names: must be a list of names without control"),
        (good(calls_per_second="0"), "t.toml: callers[0].calls_per_second: must be a number above 0"),
        (good(calls_per_second="nan"), "t.toml: callers[0].calls_per_second: must be a number above 0"),
        (good(calls_per_second="true"), "t.toml: callers[0].calls_per_second: must be a number above 0"),
        (good() + good(token_hashes=f'["{OTHER}"]'), "t.toml: callers[0].name: appears in the file twice"),
        (good() + good(name='"b"'), "t.toml: callers[1].token_hashes: appears in the file twice"),
        ("[[callers]\n", "t.toml: not TOML"),
        ("a = " + "[" * 10_000, "t.toml: not TOML: values are nested too deeply"),
    ],
)
def test_a_wrong_file_is_reported_by_key_and_rule(text: str, expected: str) -> None:
    """An error has the key and the rule, and repeats neither a hash nor a possible token."""
    problems = problems_of(text)
    assert any(expected in problem for problem in problems), problems
    assert HASH not in "".join(problems)
    assert "bandit_token" not in "".join(problems)


def test_a_certificate_may_have_a_name_of_any_script() -> None:
    """Joiners and spaces of other scripts belong to names, and are kept."""
    (caller,) = parse_tokens(
        good(certificate_names='["\u5c71\u3000\u592a", "\u0645\u06cc\u200c"]'), "t.toml"
    ).callers
    assert caller.certificate_names == {"\u5c71\u3000\u592a", "\u0645\u06cc\u200c"}


def test_all_problems_are_reported_at_once() -> None:
    """All problems are reported at once, one per line."""
    assert len(problems_of(good(name="1", roles="[]", calls_per_second="-1"))) == 3


def test_a_missing_or_binary_file_is_reported_by_name(tmp_path: Path) -> None:
    """The error is one line with the path."""
    with pytest.raises(TokensFileError, match=r"no\.toml: no such file"):
        load_tokens(tmp_path / "no.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff")
    with pytest.raises(TokensFileError, match=r"bytes\.toml: not UTF-8"):
        load_tokens(tmp_path / "bytes.toml")


def test_a_token_is_long_random_and_recognisable() -> None:
    """A token has 256 random bits after a prefix that scanners can find."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(rf"{TOKEN_PREFIX}[A-Za-z0-9_-]{{43}}", token) for token in tokens)


def test_a_directory_finds_each_caller_by_each_token() -> None:
    """It finds each caller by each token, and no one by another hash or a part of one."""
    callers = [
        Caller(name=str(n), roles=frozenset(Role), token_hashes=(digest_of(f"{n}a"), digest_of(f"{n}b")))
        for n in range(5)
    ]
    directory = Directory(callers)
    for caller in callers:
        assert [directory.find_by_hash(digest) for digest in caller.token_hashes] == [caller, caller]
    assert directory.find_by_hash(digest_of("5a")) is None
    assert directory.find_by_hash(b"") is None


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("team-a/x", True),
        ("team-b/x", True),
        ("team-c/x", False),
        ("x", False),
        ("team-a", False),
        ("team-a/x/y", False),
    ],
)
def test_a_namespace_is_the_part_before_the_slash(name: str, *, is_allowed: bool) -> None:
    """A namespace must match exactly, and a name without a slash has no namespace."""
    caller = Caller(name="a", roles=frozenset(Role), namespaces=frozenset({"team-a", "team-b"}))
    ANYONE.require_experiment(name)
    if is_allowed:
        caller.require_experiment(name)
    else:
        with pytest.raises(PermissionDeniedError):
            caller.require_experiment(name)


def test_a_file_is_loaded_again_only_when_it_changed(tmp_path: Path) -> None:
    """Replacement by a file of the same size, or through a link, is noticed; a broken file is ignored."""
    file = tmp_path / "file"
    file.write_text("1")
    n_loads = []

    def load() -> int:
        n_loads.append(1)
        return int(file.read_text())

    watched = ReloadingFile("numbers", [file], load, ValueError)
    watched.look()
    assert (watched.value, len(n_loads)) == (1, 1)
    (tmp_path / "two").write_text("2")
    (tmp_path / "link").symlink_to("two")
    (tmp_path / "link").replace(file)
    watched.look()
    assert (watched.value, len(n_loads)) == (2, 2)
    file.unlink()
    file.write_text("none")
    watched.look()
    watched.look()
    assert (watched.value, len(n_loads)) == (2, 3)
    file.unlink()
    os.mkfifo(file)  # a reader would wait for ever
    watched.look()
    assert (watched.value, len(n_loads)) == (2, 3)
    file.unlink()
    file.write_text("3")
    watched.look()
    assert watched.value == 3


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `bandit-server token new` in the test's folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, ["token", "new", *arguments])


def test_a_new_token_is_printed_once_with_its_lines(run: Callable[..., Result]) -> None:
    """Standard output has only the token, so that it can be redirected; standard error has the lines."""
    result = run("--caller", "ranker", "--role", "choose", "--namespace", "team-a")
    token = result.stdout.strip()
    assert token.startswith(TOKEN_PREFIX)
    assert token not in result.stderr
    (caller,) = parse_tokens(result.stderr, "t").callers
    assert caller == Caller(
        name="ranker",
        roles=frozenset({Role.CHOOSE}),
        namespaces=frozenset({"team-a"}),
        token_hashes=(digest_of(token),),
    )


def test_appending_tokens_keeps_the_rest_of_the_file(run: Callable[..., Result], tmp_path: Path) -> None:
    """A second token is added to the first; comments, order, other callers and the file's mode stay."""
    file = tmp_path / "tokens.toml"
    other = good(name='"b"', token_hashes=f'["{OTHER}"]')
    file.write_text(f"# ours\n{good()}  # the end of a\n\n{other}")
    file.chmod(0o640)
    second = run("--caller", "a", "--append", "tokens.toml").stdout.strip()
    third = run(
        "--caller", "c", "--role", "admin", "--role", "viewer", "--append", "tokens.toml"
    ).stdout.strip()
    callers = {caller.name: caller for caller in load_tokens(file).callers}
    assert list(callers) == ["a", "b", "c"]
    assert callers["a"].token_hashes == (digest_of("bandit_one"), digest_of(second))
    assert callers["c"].token_hashes == (digest_of(third),)
    assert callers["c"].roles == {Role.ADMIN, Role.VIEWER}
    assert file.read_text().startswith("# ours\n")
    assert "# the end of a" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.toml"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--caller", "full"), "has 2 tokens already"),
        (("--caller", "a", "--role", "admin"), "caller a has other roles in the file"),
        (("--caller", "a", "--namespace", "team-a"), "caller a has other namespaces in the file"),
        (("--caller", "new"), "--role: caller new is new, and needs a role"),
        (("--caller", "two words", "--role", "admin"), "--caller: must match"),
        (("--caller", "new", "--role", "admin", "--namespace", "A/b"), "callers[2].namespaces: must be"),
    ],
)
def test_a_token_that_does_not_go_with_the_file_is_refused(
    arguments: tuple[str, ...], expected: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    """It is refused with the reason, the file is unchanged, and no token is printed."""
    file = tmp_path / "tokens.toml"
    hashes = '["sha256:' + "0" * 64 + '", "sha256:' + "1" * 64 + '"]'
    before = good() + good(name='"full"', token_hashes=hashes)
    file.write_text(before)
    result = run(*arguments, "--append", "tokens.toml")
    assert result.exit_code != 0
    assert expected in result.stderr
    assert TOKEN_PREFIX not in result.stdout
    assert file.read_text() == before


@pytest.mark.parametrize("text", ["callers = 3\n", "callers\n"])
def test_a_token_is_not_added_to_another_kind_of_file(
    text: str, run: Callable[..., Result], tmp_path: Path
) -> None:
    """One line gives the reason, and the file is unchanged."""
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    result = run("--caller", "new", "--role", "admin", "--append", "tokens.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: --append: ")
    assert file.read_text() == text
