"""`wire.md` lists exactly the calls of the service."""

import re
from pathlib import Path
from typing import Final

import pytest

from bandit.v1 import admin_pb2, bandit_pb2, experiment_pb2, launch_pb2

WIRE: Final = (Path(__file__).parents[2] / "server" / "docs" / "wire.md").read_text()
SERVICES: Final = [
    service
    for protos in (bandit_pb2, experiment_pb2, launch_pb2, admin_pb2)
    for service in protos.DESCRIPTOR.services_by_name.values()
]


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_every_call_is_listed(service: object) -> None:
    """The section of a service has a table with a row for each of its calls."""
    name, calls = service.name, [method.name for method in service.methods]  # type: ignore[attr-defined]
    found = re.search(rf"^## {name}\n+(.*?)(?=^## |\Z)", WIRE, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {name!r}"
    (table,) = re.findall(r"^\| call \|.*\n(?:\|.*\n)+", found[1], re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == calls


@pytest.mark.parametrize("name", ["Reason", "OutcomeResult"])
def test_every_answer_is_explained(name: str) -> None:
    """The page has each reason of Choose and each result of Reward."""
    values = bandit_pb2.DESCRIPTOR.enum_types_by_name[name].values_by_name
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() + "_"
    words = {value.removeprefix(prefix) for value in values} - {"UNSPECIFIED"}
    assert {word for word in words if f"`{word}`" not in WIRE} == set()
