"""Fixtures of servers with authentication, callers, and their certificates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from server.services.access.callers import Role, digest_of, format_hash, new_token
from tests.support.certificates import Authority
from tests.support.process import WITH_FAST_LANE, ServerProcess, serving
from tests.support.wire import Wire

Enter = Callable[..., Wire]


@dataclass(frozen=True, slots=True)
class TokensFile:
    """A tokens file that tests rewrite.

    Attributes:
        path: Path of the file.
        tokens: Caller to the caller's tokens.
    """

    path: Path
    tokens: dict[str, list[str]]

    @classmethod
    def create(cls, path: Path, callers: dict[str, str]) -> "TokensFile":
        """Create a file of callers with two tokens each; `callers` maps a name to its lines of TOML."""
        file = cls(path, {name: [new_token(), new_token()] for name in callers})
        file.write(callers)
        return file

    def write(self, callers: dict[str, str], n_tokens: int = 2) -> None:
        """Replace the file by one with these callers, with `n_tokens` of their tokens."""
        blocks = []
        for name, lines in callers.items():
            hashes = [format_hash(digest_of(token)) for token in self.tokens[name][:n_tokens]]
            blocks.append(f'[[callers]]\nname = "{name}"\ntoken_hashes = {hashes}\n{lines}\n')
        draft = self.path.with_suffix(".new")
        draft.write_text("\n".join(blocks))
        draft.replace(self.path)

    def token(self, name: str) -> str:
        """Return the first token of a caller."""
        return self.tokens[name][0]


BY_ROLE = {str(role): f'roles = ["{role}"]' for role in Role}
CALLERS = BY_ROLE | {
    "everything": f"roles = {[str(role) for role in Role]}",
    "team-a": 'roles = ["choose", "reward", "operator", "admin"]\nnamespaces = ["team-a"]',
}


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokensFile:
    """Create a caller for each role, one with all roles, and one limited to a namespace."""
    return TokensFile.create(tmp_path_factory.mktemp("tokens") / "tokens.toml", CALLERS)


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory, tokens: TokensFile) -> Iterator[ServerProcess]:
    """Start a server that these callers share; its log must have no token and no hash."""
    file = tmp_path_factory.mktemp("guarded") / "bandit.db"
    with serving(file, "--tokens", str(tokens.path), "--reflection", *WITH_FAST_LANE) as server:
        yield server
    log = server.log.read_text()
    secrets = [token for pair in tokens.tokens.values() for token in pair]
    assert [secret for secret in secrets if secret in log or digest_of(secret).hex() in log] == []


@pytest.fixture
def enter(listener: str) -> Iterator[Enter]:
    """Open channels that are closed at the end."""
    wires: list[Wire] = []

    def open_wire(
        server: ServerProcess, token: str = "", credentials: grpc.ChannelCredentials | None = None
    ) -> Wire:
        wires.append(Wire.to(server, listener, token=token, credentials=credentials))
        return wires[-1]

    yield open_wire
    for wire in wires:
        wire.close()


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Create the authority that signs the certificates of servers and clients."""
    return Authority.create()
