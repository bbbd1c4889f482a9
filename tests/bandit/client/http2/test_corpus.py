"""What the fuzzer once found interesting still decodes as in the `hpack` package."""

from pathlib import Path
from typing import Final

import pytest

from tests.fuzz import hpack_fuzzer

FOLDER: Final = Path(hpack_fuzzer.__file__).with_name("corpus") / "hpack"
FILES: Final = sorted(FOLDER.iterdir())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_our_decoder_agrees_with_the_package(file: Path) -> None:
    """An input of the corpus gives the same fields, or an error of both decoders."""
    hpack_fuzzer.check(file.read_bytes())


def test_the_corpus_holds_blocks_of_both_kinds() -> None:
    """Some inputs are decoded to their end and some are refused, so that the comparison sees both."""
    verdicts = [hpack_fuzzer.check(file.read_bytes()) for file in FILES]
    assert {verdict.is_refused for verdict in verdicts} == {False, True}
