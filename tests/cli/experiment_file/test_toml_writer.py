"""The TOML writer, whose output the standard library reads back."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from server.cli.experiment_file.toml_writer import TomlTable, dumps

texts = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_what_is_written_is_read_back(table: TomlTable) -> None:
    """Any table, with any characters in keys and values, is read back unchanged."""
    assert tomllib.loads(dumps(table)) == table


def test_scalars_stand_before_tables() -> None:
    """A scalar after a table's heading would belong to that table."""
    assert dumps({"b": {"x": 1}, "a": 2}) == "a = 2\n\n[b]\nx = 1"


def test_whole_floats_are_written_without_a_point() -> None:
    """Whole floats are written as 1, and not as 1.0."""
    assert dumps({"maximum": 1.0, "minimum": 0.05}) == "maximum = 1\nminimum = 0.05"


def test_null_is_not_toml() -> None:
    """A value that TOML does not have makes invalid TOML, instead of another value."""
    assert dumps({"x": None}) == "x = null"


@given(st.dictionaries(texts, values, max_size=4))
def test_control_characters_are_escaped(table: TomlTable) -> None:
    """Control characters of both sets, and marks that change the direction of text, are escaped."""
    assert all(letter.isprintable() or letter in "\n\u200c\u200d\u3000" for letter in dumps(table))


def test_what_people_read_is_not_escaped() -> None:
    """Joiners of Persian, Hindi and emoji, and the space of Japanese, stay as they are."""
    for text in (
        "\u0645\u06cc\u200c\u062e",
        "\u0915\u094d\u200d\u0937",
        "\U0001f469\u200d\U0001f680",
        "\u5c71\u3000\u592a",
    ):
        assert dumps({"x": text}) == f'x = "{text}"'
