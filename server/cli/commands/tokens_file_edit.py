"""Edits of a tokens file: adding a token's hash and leaving everything else as it was written."""

import re
from typing import Final

from server.services.access.callers import MAX_TOKENS, Caller, format_hash
from server.services.runtime.input_files import InputFileError, parse_toml

_HEADER: Final = re.compile(r"^\s*\[\[\s*callers\s*\]\].*$", re.MULTILINE)
_HASHES: Final = re.compile(r"^(?P<head>\s*token_hashes\s*=\s*\[)(?P<items>[^\]]*)\]", re.MULTILINE)


class TokensTextError(Exception):
    """A request that conflicts with the tokens file."""


def with_token(text: str, caller: Caller) -> str:
    """Return the text with the hash of the caller's one token added.

    Args:
        text: Text of a tokens file, possibly empty.
        caller: A new caller, or one in the file, who then keeps the roles and namespaces of the file.

    Raises:
        TokensTextError: The caller in the file has other roles or namespaces, or has two tokens; or a new
            caller has no role; or the text is not in the usual form.
    """
    try:
        tables = parse_toml(text).get("callers", [])
    except InputFileError as error:
        raise TokensTextError(f"--append: the file: {error}") from None
    if not isinstance(tables, list):
        raise TokensTextError("--append: callers in the file must be a list of tables, [[callers]]")
    names = [table.get("name") for table in tables if isinstance(table, dict)]
    if caller.name not in names:
        if not caller.roles:
            raise TokensTextError(f"--role: caller {caller.name} is new, and needs a role")
        return f"{text.rstrip()}\n\n{_table(caller)}".lstrip()
    index = names.index(caller.name)
    _require_same(tables[index], caller)
    return _with_second(text, index, caller)


def _table(caller: Caller) -> str:
    lines = ["[[callers]]", f'name = "{caller.name}"', f"roles = {_list(caller.roles)}"]
    if caller.namespaces is not None:
        lines.append(f"namespaces = {_list(caller.namespaces)}")
    lines.append(f"token_hashes = {_list(map(format_hash, caller.token_hashes))}")
    return "\n".join(lines) + "\n"


def _list(items: object) -> str:
    return "[" + ", ".join(f'"{item}"' for item in sorted(items)) + "]"  # type: ignore[call-overload]


def _require_same(table: dict[str, object], caller: Caller) -> None:
    for flag, key, requested in (
        ("--role", "roles", caller.roles),
        ("--namespace", "namespaces", caller.namespaces),
    ):
        stored = table.get(key)
        texts = [item for item in stored if isinstance(item, str)] if isinstance(stored, list) else []
        if requested and set(texts) != set(requested):
            raise TokensTextError(
                f"{flag}: caller {caller.name} has other {key} in the file; change them there"
            )
    hashes = table.get("token_hashes", [])
    if isinstance(hashes, list) and len(hashes) >= MAX_TOKENS:
        raise TokensTextError(
            f"caller {caller.name} has {MAX_TOKENS} tokens already: remove the older one's hash from the file"
        )


def _with_second(text: str, index: int, caller: Caller) -> str:
    """Return the text with one more hash in the table at `index`."""
    headers = [match.start() for match in _HEADER.finditer(text)]
    if len(headers) <= index:
        raise TokensTextError("the file has no [[callers]] tables in the usual form: add the hash by hand")
    end = headers[index + 1] if index + 1 < len(headers) else len(text)
    block = text[headers[index] : end]
    hashes = [format_hash(digest) for digest in caller.token_hashes]
    match = _HASHES.search(block)
    if match is None:
        added = f"{block.rstrip()}\ntoken_hashes = {_list(hashes)}\n\n"
    else:
        items = [item.strip() for item in match["items"].split(",") if item.strip()]
        quoted = [f'"{item}"' for item in hashes]
        line = f"{match['head']}{', '.join([*items, *quoted])}]"
        added = block[: match.start()] + line + block[match.end() :]
    return text[: headers[index]] + added + text[end:]
