"""Secrets never appear in logs."""

import base64
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from bandit.v1 import admin_pb2
from server.services.access.callers import digest_of, new_token
from tests.conftest import StartServer
from tests.security.conftest import Enter, TokensFile
from tests.support.certificates import Authority
from tests.support.process import ServerProcess, eventually


def renderings(secret: bytes) -> set[str]:
    """Return the forms in which a log might show a secret."""
    return {secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1], str(list(secret))}


def test_a_log_holds_no_secret(
    start_server: StartServer, tmp_path: Path, authority: Authority, enter: Enter
) -> None:
    """No token, valid or wrong, no hash, private key or signing key is in it, even at level debug."""
    certificate, key = authority.issue("server.test").write(tmp_path, "server")
    file = TokensFile.create(tmp_path / "tokens.toml", {"all": 'roles = ["admin", "operator", "choose"]'})
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--tokens", str(file.path))
    server = start_server(*flags, "--log-level", "debug")
    wrong = new_token()
    with pytest.raises(grpc.RpcError):
        enter(server, wrong, authority.credentials()).list_page()
    wire = enter(server, file.token("all"), authority.credentials())
    wire.running()
    wire.admin.RotateDecisionKey(admin_pb2.RotateDecisionKeyRequest(), timeout=20)
    file.path.write_text(file.path.read_text() + f'token = "{wrong}"\n')
    key.write_bytes(key.read_bytes()[:-40])
    eventually(lambda: sum(event["event"] == "file.not_reloaded" for event in server.events()) == 2)
    assert server.terminate() == 0
    with closing(sqlite3.connect(server.database)) as connection:
        keys = [secret for (secret,) in connection.execute("SELECT secret FROM signing_keys")]
    assert len(keys) == 2
    tokens = [*file.tokens["all"], wrong]
    lines = {line for line in key.read_text().splitlines() if "-----" not in line}
    secrets = {*tokens, *lines}.union(*map(renderings, [*keys, *map(digest_of, tokens)]))
    log = server.log.read_text()
    assert "key.signs" in log or "keys.changed" in log
    assert [secret for secret in secrets if secret in log] == []


def test_an_unreachable_database_is_logged_without_its_password(tmp_path: Path) -> None:
    """The log of a server that waits for its database does not have the password."""
    url = "postgresql+psycopg://bandit:s3cret@127.0.0.1:1/bandit"
    server = ServerProcess.start(tmp_path / "unused.db", "--database", url, "--log-level", "debug")
    waiting = eventually(lambda: [e for e in server.events() if e["event"] == "standby.waiting"])
    assert "database" in waiting[0]["error"]
    assert server.terminate() == 0
    assert "s3cret" not in server.log.read_text()


def test_a_traceback_shows_no_values() -> None:
    """A traceback may show the names of variables, but not their values."""
    code = (
        "from server.app.log_setup import set_up_logs, structlog\n"
        "set_up_logs('debug')\n"
        "def call(unit):\n"
        "    try:\n        raise ValueError('told')\n"
        "    except ValueError:\n        structlog.get_logger().exception('call.failed')\n"
        "call('s3' + 'cret')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "told" in done.stderr
    assert "s3cret" not in done.stderr
