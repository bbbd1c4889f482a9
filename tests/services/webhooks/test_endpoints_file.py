"""The webhooks file: what is in it, and errors that name file, key and rule, and no secret."""

import base64
from pathlib import Path

import pytest

from server.services.webhooks.endpoints_file import WebhooksFileError, load_endpoints

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
WHOLE = f"""
[[endpoints]]
name = "chat"
url = "https://hooks.example.com/bandit?key=1"
secrets = ["{SECRET}", "{SECRET}"]
namespaces = ["team-a"]

[[endpoints]]
name = "local"
url = "http://localhost:8080/"
secrets = ["{SECRET}"]
"""


def load(tmp_path: Path, text: str) -> object:
    """Load a file with this text."""
    path = tmp_path / "webhooks.toml"
    path.write_text(text)
    return load_endpoints(path)


def test_a_whole_file(tmp_path: Path) -> None:
    """Every key is read."""
    path = tmp_path / "webhooks.toml"
    path.write_text(WHOLE)
    chat, local = load_endpoints(path)
    assert (chat.name, chat.url.hostname, chat.namespaces) == (
        "chat",
        "hooks.example.com",
        frozenset({"team-a"}),
    )
    assert chat.secrets == (b"s" * 32, b"s" * 32)
    assert (local.url.port, local.namespaces) == (8080, None)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('name = "chat"', 'name = "No"', "endpoints[0].name: must match"),
        ('name = "local"', 'name = "chat"', "endpoints[1].name: appears in the file twice"),
        ("namespaces", "namespace", "endpoints[0].namespace: no such key; there are"),
        ('["team-a"]', "[]", "endpoints[0].namespaces: must be a list"),
        ("https://hooks", "http://hooks", "endpoints[0].url: must begin with https://"),
        ("https://hooks", "ftp://hooks", "endpoints[0].url: must begin with https://"),
        ("https://hooks", "https://user:pw@hooks", "endpoints[0].url: must have no user"),
        (".com/", ".com:99999/", "endpoints[0].url: must be a URL whose host and port"),
        (".com/bandit", ".com/ban dit", "endpoints[0].url: must be a URL of printable"),
        (SECRET, "whsec_c2hvcnQ=", "endpoints[0].secrets: must be one or two"),
        (SECRET, "secret", "endpoints[0].secrets: must be one or two"),
        (f', "{SECRET}"', f', "{SECRET}", "{SECRET}"', "endpoints[0].secrets: must be one or two"),
        ("[[endpoints]]", "[[endpoint]]", "endpoint: no such key"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, before: str, after: str, problem: str) -> None:
    """Each problem is a line with file, key and rule."""
    assert before in WHOLE
    with pytest.raises(WebhooksFileError) as caught:
        load(tmp_path, WHOLE.replace(before, after, 1))
    lines = str(caught.value).splitlines()
    assert [line for line in lines if line.startswith(f"{tmp_path / 'webhooks.toml'}: {problem}")]
    assert SECRET not in str(caught.value)
    assert "pw@" not in str(caught.value)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    """The error has the path."""
    with pytest.raises(WebhooksFileError, match=r"gone\.toml: "):
        load_endpoints(tmp_path / "gone.toml")
