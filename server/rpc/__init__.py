"""The wire: the only package that uses protobuf.

- `methods` lists every RPC, with its handler, its roles and its largest request; `server` serves them;
- `handlers` convert, call a service, and convert back; `messages` does the conversions;
- `guard` is around every call: authentication, roles, rates, errors as statuses, metrics;
- `floods` ends calls whose requests never arrive.
"""
