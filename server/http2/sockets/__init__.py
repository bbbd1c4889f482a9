"""The sockets of the HTTP/2 server: accepted within limits, with TLS or without, read and written."""
