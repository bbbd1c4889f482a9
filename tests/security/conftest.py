"""Servers that want to know who calls, the callers, and their certificates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from server.services.access.callers import Role, digest_of, format_hash, new_token
from tests.support.certificates import Authority
from tests.support.process import ServerProcess, serving
from tests.support.wire import Wire

Enter = Callable[..., Wire]


@dataclass(frozen=True, slots=True)
class TokensFile:
    """A tokens file, rewritten by the test.

    Attributes:
        path: Where it is.
        tokens: Caller to the tokens that were made for them.
    """

    path: Path
    tokens: dict[str, list[str]]

    @classmethod
    def create(cls, path: Path, callers: dict[str, str]) -> "TokensFile":
        """A file of callers with two tokens each, and the lines of TOML that belong to them."""
        file = cls(path, {name: [new_token(), new_token()] for name in callers})
        file.write(callers)
        return file

    def write(self, callers: dict[str, str], n_tokens: int = 2) -> None:
        """Replaces the file by one of these callers, with the first or the last of their tokens."""
        blocks = []
        for name, lines in callers.items():
            hashes = [format_hash(digest_of(token)) for token in self.tokens[name][:n_tokens]]
            blocks.append(f'[[callers]]\nname = "{name}"\ntoken_hashes = {hashes}\n{lines}\n')
        draft = self.path.with_suffix(".new")
        draft.write_text("\n".join(blocks))
        draft.replace(self.path)

    def token(self, name: str) -> str:
        """The first token of a caller."""
        return self.tokens[name][0]


BY_ROLE = {str(role): f'roles = ["{role}"]' for role in Role}
CALLERS = BY_ROLE | {
    "everything": f"roles = {[str(role) for role in Role]}",
    "team-a": 'roles = ["choose", "reward", "operator", "admin"]\nnamespaces = ["team-a"]',
}


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokensFile:
    """A caller for each role, one with all of them, and one limited to a namespace."""
    return TokensFile.create(tmp_path_factory.mktemp("tokens") / "tokens.toml", CALLERS)


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, tokens: TokensFile) -> Iterator[ServerProcess]:
    """A server that these callers share; its log holds no token and no hash."""
    file = tmp_path_factory.mktemp("guarded") / "bandit.db"
    with serving(file, "--tokens", str(tokens.path), "--reflection") as server:
        yield server
    log = server.log.read_text()
    secrets = [token for pair in tokens.tokens.values() for token in pair]
    assert [secret for secret in secrets if secret in log or digest_of(secret).hex() in log] == []


@pytest.fixture
def enter() -> Iterator[Enter]:
    """Opens channels that are closed at the end."""
    wires: list[Wire] = []

    def open_wire(
        server: ServerProcess, token: str = "", credentials: grpc.ChannelCredentials | None = None
    ) -> Wire:
        wires.append(Wire(server.address, token=token, credentials=credentials))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Signs the certificates of servers and clients."""
    return Authority.create()
