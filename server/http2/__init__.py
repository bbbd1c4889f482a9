"""An HTTP/2 server (RFC 9113) for many small requests, with limits for a hostile network.

It knows neither what the requests mean nor who may send them: a `Session` answers them. `Connection` turns
bytes into calls of the session, and answers into bytes; `Listener` does the I/O.
"""
