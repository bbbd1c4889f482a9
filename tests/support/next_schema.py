"""The schema of a possible next release, which adds to this one's."""

from pathlib import Path
from typing import Final

from server.store.migrate import CURRENT, Schema

NEXT: Final = Schema("9001", (*CURRENT.folders, Path(__file__).parents[1] / "store" / "next_schema"))
"""This version's migrations and one more, in a folder of the tests."""
