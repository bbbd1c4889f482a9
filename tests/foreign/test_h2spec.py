"""The fast lane under h2spec, which breaks the rules of HTTP/2 and HPACK one by one."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.foreign.site import Site
from tests.foreign.toolchains import build_go

_PACKAGE: Final = "github.com/summerwind/h2spec/cmd/h2spec"
_LEAST_CASES: Final = 140

NOT_APPLICABLE: Final[Mapping[str, str]] = {}
"""Cases of h2spec, as `SECTION: TITLE`, that a server by RFC 9113 need not pass, each with its reason."""


@pytest.fixture(scope="session")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build h2spec."""
    return build_go(_PACKAGE, tmp_path_factory.mktemp("h2spec") / "h2spec")


def test_nothing_that_applies_fails(site: Site, h2spec: Path, tmp_path: Path) -> None:
    """Every case that applies passes, and every other is one that this server does not pass."""
    failures, n_cases = _run(h2spec, site.listeners[1], tmp_path / "report.xml")
    for case, reason in NOT_APPLICABLE.items():
        print(f"not applicable: {case}: {reason}")  # noqa: T201 - what a person wants to see of a run
    assert failures == NOT_APPLICABLE.keys()
    assert n_cases >= _LEAST_CASES


def _run(program: Path, address: str, report: Path) -> tuple[set[str], int]:
    """Return the cases that failed, and the number of those that ran.

    A request that is no gRPC call is answered with a short body, which the cases on flow control need.
    """
    host, port = address.rsplit(":", 1)
    where = ("--host", host, "--port", port, "--path", "/", "--timeout", "4")
    done = subprocess.run(
        [program, "--strict", *where, "--junit-report", report],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - h2spec's own
    failed = {
        f"{case.get('package')}: {case.get('classname')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    return failed, len(cases)
