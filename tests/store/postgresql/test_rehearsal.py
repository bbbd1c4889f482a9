"""What keeps a connection to PostgreSQL from ever coming about: found without a server or a network."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.store.errors import StorePlaceError
from server.store.opening import find_store
from server.store.postgresql.reasons import reason_of, secrets_of

USER = "postgresql+psycopg://bob:hunter2@"

NEVER = [
    ("db/x?sslmode=bogus", 'invalid sslmode value: "bogus"'),
    ("db/x?sslmod=require", "PostgreSQL has no connection option 'sslmod'; did you mean sslmode?"),
    ("db/x?sslmode", "what follows the question mark in the database's URL is not NAME=VALUE"),
    ("db/x?sslmode=a&sslmode=b", "the connection option sslmode is given more than once"),
    ("db:99999/x", "the port must be a whole number from 1 to 65535, got 99999"),
    ("db:0/x", "the port must be a whole number from 1 to 65535, got 0"),
    ("db:abc/x", "the database's URL can't be read"),
    ("db/x?port=abc", "the database's URL can't be read"),
    ("db/x?connect_timeout=x", "connect_timeout must be a number of seconds, got 'x'"),
    ("db/x?target_session_attrs=bogus", 'invalid target_session_attrs value: "bogus"'),
    ("db/x?gssencmode=bogus", 'invalid gssencmode value: "bogus"'),
    ("db/x?channel_binding=bogus", 'invalid channel_binding value: "bogus"'),
    ("db/x?keepalives=bogus", 'invalid integer value "bogus" for connection option "keepalives"'),
    ("db/x?service=none", 'definition of service "none" not found'),
    ("a,b/x?hostaddr=10.0.0.1", "could not match 2 host names to 1 hostaddr values"),
    ("cret@db/x", "the host has a character that no host has"),
    ("db/x?application_name=a%00b", "the connection option application_name holds a NUL byte"),
]
PERHAPS = [
    "db/x",
    "db/x?sslmode=verify-full&sslrootcert=system",
    "db/x?sslrootcert=/missing",  # without sslmode it is not needed
    "db/x?sslmode=require&sslcert=/missing",  # a server need not ask for it
    "db/x?passfile=/missing",
    "good,b/x",
    "/x?host=a:5432&host=b:99999",  # one good port is enough
    "/x?host=/nowhere",  # PostgreSQL makes the folder when it starts
    "[::1]:5432/x",
    "[fe80::1%25eth0]/x",
    "db/x?hostaddr=192.0.2.1",
    "db/x?target_session_attrs=prefer-standby",
]


@pytest.mark.parametrize(("rest", "reason"), NEVER)
def test_an_option_that_no_waiting_mends_is_a_wrong_setting(rest: str, reason: str) -> None:
    """It is refused at once with the reason on one line, and without the password."""
    with pytest.raises(StorePlaceError) as caught:
        find_store(USER + rest)
    text = str(caught.value)
    assert reason in text
    assert caught.value.is_malformed
    assert "hunter2" not in text
    assert "127.0.0.1" not in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("rest", PERHAPS)
def test_what_the_driver_accepts_is_accepted(rest: str) -> None:
    """Whatever may come about, once the database and the network are there, is waited for."""
    find_store(USER + rest).close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("sslmode=verify-full&sslrootcert=/missing", 'root certificate file "/missing" does not exist'),
        ("sslmode=verify-ca&sslrootcert={folder}/text", "could not read root certificate file"),
        ("sslmode=require&sslcert={folder}/cert&sslkey={folder}/open", "has group or world access"),
        ("sslmode=require&sslcert={folder}/cert&sslkey=/missing", 'not private key file "/missing"'),
        ("sslmode=require&sslcert={folder}/text&sslkey={folder}/key", "could not read certificate file"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_failed_start(tmp_path: Path, options: str, reason: str) -> None:
    """The driver's own reason is given; the setting may be right on another machine."""
    (tmp_path / "text").write_text("nonsense\n")
    made = ("-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert"), "-subj", "/CN=bob")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, capture_output=True
    )
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "open").write_bytes((tmp_path / "key").read_bytes())
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(StorePlaceError) as caught:
        find_store(f"{USER}db/x?{options.format(folder=tmp_path)}")
    assert reason in str(caught.value)
    assert not caught.value.is_malformed
    find_store(f"{USER}db/x?sslmode=require&sslcert={tmp_path / 'cert'}&sslkey={tmp_path / 'key'}").close()


def test_options_of_the_environment_are_rehearsed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver takes what the URL leaves out from PG… variables, and those are no better there."""
    monkeypatch.setenv("PGSSLMODE", "bogus")
    with pytest.raises(StorePlaceError, match="invalid sslmode value"):
        find_store(f"{USER}db/x")
    monkeypatch.delenv("PGSSLMODE")
    monkeypatch.setenv("PGPORT", "99999")
    with pytest.raises(StorePlaceError, match="the port must be a whole number"):
        find_store(f"{USER}db/x")


@given(secret=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*…\0"), min_size=3))
def test_no_reason_holds_a_secret(secret: str) -> None:
    """However the driver writes a password, it is hidden, and the reason is one printable line."""
    secrets = secrets_of({"password": secret, "sslpassword": "other-secret"})
    text = reason_of(f"could not use '{secret}' and {secret!r}\n\tother-secret {'x' * 1_000}", secrets)
    assert text.startswith("could not use '***' and ")
    assert "other-secret" not in text
    assert text.isprintable()
    assert len(text) < 500
