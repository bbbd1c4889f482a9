"""Units on the command line: the rule of Choose, and the same bytes in every locale."""

import os
from collections.abc import Callable

import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.mark.parametrize("command", [("choose", "demo", "--unit"), ("experiment", "unit", "demo")])
@pytest.mark.parametrize(
    ("unit", "fault"),
    [
        ("a\u202eb", "U+202E at position 2 is a bidirectional control, which a unit may not contain"),
        ("a\tb", "U+0009 at position 2 is a control character, which a unit may not contain"),
        (" ", "only white space, such as U+0020: a unit needs another character too"),
        ("x" * 257, "257 code points: a unit has 1 to 256"),
        (os.fsdecode(b"caf\xe9"), "is not UTF-8, and a unit is"),
    ],
)
def test_a_bad_unit_is_refused_before_any_call(
    run: Run, command: tuple[str, ...], unit: str, fault: str
) -> None:
    """The command says which code point is wrong, without a server, and prints nothing of the unit."""
    result = run(*command, unit, "--server", "127.0.0.1:1")
    assert result.exit_code == 2
    assert fault in result.stderr
    assert result.stderr.replace("\n", "").isprintable()
