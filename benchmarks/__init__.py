"""What analysts and operators run: `python -m benchmarks.throughput`, `.replay`, `.durable` and `.soak`.

All start servers of their own on free loopback ports, with databases in a scratch folder, and leave nothing
behind. They need the `benchmarks` extra and the repository as the working directory.
"""
