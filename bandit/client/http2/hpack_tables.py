"""The static table of header compression (RFC 7541 appendix A)."""

from typing import Final

Field = tuple[bytes, bytes]
"""A header field: its name and its value."""

_FIELDS: Final = """\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate
"""

STATIC_TABLE: Final[tuple[Field, ...]] = tuple(
    (name, value) for name, _, value in (line.partition(b" ") for line in _FIELDS.encode().splitlines())
)
"""The fields that every block may refer to; the first has index 1."""

FIELD_TO_INDEX: Final = {field: index for index, field in enumerate(STATIC_TABLE, 1)}
NAME_TO_INDEX: Final = {name: index for index, (name, _) in reversed(tuple(enumerate(STATIC_TABLE, 1)))}
"""From a name to the first index that has it."""
