"""The locked requirements: everything that a server needs, each with its hashes, from any index."""

import re
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "server" / "requirements.txt").read_text()
DISTRIBUTION = "bandit-allocator"
LOCKED = {
    canonicalize_name(name): (pinned, re.findall(r"--hash=sha256:([0-9a-f]{64})(?![0-9a-f])", rest))
    for name, pinned, rest in re.findall(r"^([\w.-]+)==(\S+)((?:.*\\\n)*.*)$", TEXT, re.MULTILINE)
}


def declared(extra: str) -> list[Requirement]:
    """Return what the project itself declares, for an extra or without one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*map(Requirement, project["optional-dependencies"].get(extra, project["dependencies"]))]


def required(requirement: Requirement) -> list[Requirement]:
    """Return what a requirement requires on this machine, if the installed version is the locked one."""
    if requirement.name == DISTRIBUTION:
        return [found for extra in requirement.extras for found in declared(extra)]
    if version(requirement.name) != LOCKED[canonicalize_name(requirement.name)][0]:
        return []
    extras = requirement.extras or {""}
    return [
        found
        for found in map(Requirement, requires(requirement.name) or ())
        if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in extras)
    ]


def test_the_lock_covers_everything_that_a_server_needs() -> None:
    """The lock covers what the project declares, and what that needs in turn, in an allowed version."""
    waiting, seen = [*declared("server"), *declared("")], set[str]()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        if requirement.name != DISTRIBUTION:
            locked, _ = LOCKED[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(locked, prereleases=True), requirement
        waiting += required(requirement)
    assert len(seen) > len(declared("server"))


def test_every_version_has_its_hashes() -> None:
    """Each has its hashes, so that what is installed is what was locked."""
    assert len(LOCKED) == len(re.findall("==", re.sub("^#.*|;.*", "", TEXT, flags=re.MULTILINE)))
    assert [name for name, (_, hashes) in LOCKED.items() if not hashes] == []


def test_the_lock_names_no_index() -> None:
    """The index is the installer's choice."""
    assert re.search(r"https?://|--index|--extra-index|--find-links| @ ", TEXT) is None
