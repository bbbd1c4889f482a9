"""The base of every service: time, threads, and files."""
