"""What analysts and operators run; `python -m benchmarks.NAME` runs each, and `--help` says what it takes.

Those that need a server start one of their own on a free loopback port, with its database in a scratch
folder, and leave nothing behind. They need the `benchmarks` extra and the repository as working directory.
"""
