"""HTTP/2 on the wire: frames (RFC 9113) and header compression (RFC 7541), for both ends of a connection.

Nothing here does I/O, or knows gRPC or what the connection is used for.
"""
