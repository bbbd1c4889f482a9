"""Generator of `bandit/v1/` from the protos: `python protos/generate.py`; `--check` lists stale files.

The proto package is the Python package, so generated imports (`from bandit.v1 import ...`) work as they are.
"""

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent
TARGET = PROTOS.parent / "bandit" / "v1"


def generate(destination: Path) -> None:
    """Write messages, service stubs, and the type stubs of both below `destination`.

    Raises:
        RuntimeError: protoc refused the sources; it has printed why.
    """
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("bandit/v1/*.proto"))
    includes = [f"-I{PROTOS}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    outputs = [f"--{kind}_out={destination}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{kind}={scripts}/protoc-gen-{kind}" for kind in ("mypy", "mypy_grpc")]
    if protoc.main(["protoc", *includes, *plugins, *outputs, *sources]) != 0:
        raise RuntimeError("protoc failed")


def generated_files(folder: Path) -> dict[str, str]:
    """Map names of the generated files in `folder` to their texts."""
    return {path.name: path.read_text() for path in folder.glob("*_pb2*.py*") if path.suffix != ".pyc"}


def main() -> int:
    """Run the command; return exit code 1 if `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the code is stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = generated_files(Path(scratch) / "bandit" / "v1")
    stale = {name for name, text in fresh.items() if generated_files(TARGET).get(name) != text}
    stale |= generated_files(TARGET).keys() - fresh.keys()
    if check:
        for name in sorted(stale):
            print(f"stale: bandit/v1/{name}; run `python protos/generate.py`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale - fresh.keys():
        (TARGET / name).unlink()
    for name, text in fresh.items():
        (TARGET / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
