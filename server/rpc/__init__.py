"""The wire: the only package that uses protobuf.

- `methods` lists every RPC, with its handler, its roles and its largest request; `server` serves them;
- `handlers` convert, call a service, and convert back; `messages` does the conversions;
- `guard` is around every call, on any transport: authentication, roles, rates, errors as values, metrics;
- `grpcio` adapts guarded methods to grpc.aio;
- `floods` ends calls whose requests never arrive.
"""
