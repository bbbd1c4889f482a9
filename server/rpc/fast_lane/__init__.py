"""The adapter from `server.http2` to the guarded methods: gRPC for the data plane without grpcio's stack.

The protocol is gRPC's own (PROTOCOL-HTTP2.md in grpc/grpc), so that every gRPC client can use it.
"""
