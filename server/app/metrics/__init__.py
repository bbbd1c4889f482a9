"""Prometheus metrics of the server, and the address at which they are served."""
