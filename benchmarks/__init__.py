"""Commands for analysts and operators: run `python -m benchmarks.NAME`; `--help` lists its options.

Commands that need a server start their own on a free loopback port, with its database in a scratch folder,
and leave nothing behind. They need the `benchmarks` extra and the repository as working directory.
"""
