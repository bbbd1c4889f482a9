"""What the fuzzer once found interesting still breaks no rule."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import connection_fuzzer

FOLDER: Final = Path(connection_fuzzer.__file__).with_name("corpus") / "connection"
FILES: Final = sorted(FOLDER.iterdir())

_steps: Final = st.lists(st.integers(0, 15) | st.integers(0, 255), max_size=60).map(bytes)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_client_of_the_corpus_breaks_nothing(file: Path) -> None:
    """Such a client is answered by the rules, and nothing of it is left once it has gone."""
    connection_fuzzer.check(file.read_bytes())


@given(_steps)
def test_any_client_breaks_nothing_and_leaves_nothing(steps: bytes) -> None:
    """After any history no stream, byte of a body or unsent byte is counted any more."""
    connection_fuzzer.check(steps)


def test_the_corpus_holds_clients_of_both_kinds() -> None:
    """Some clients are served to their end and some are sent away, so that both are seen."""
    codes = [connection_fuzzer.check(file.read_bytes()) for file in FILES]
    assert None in codes
    assert len(set(codes)) >= 3
