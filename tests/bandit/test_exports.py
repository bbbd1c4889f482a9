"""The library's exports, and their protection from another package of the same name."""

import ast
import subprocess
import sys
from pathlib import Path

import bandit
import bandit.client

ROOT = Path(bandit.__file__).parents[1]


def names_for_type_checkers() -> set[str]:
    """Return the names that `bandit/__init__.py` imports under TYPE_CHECKING."""
    tree = ast.parse((ROOT / "bandit" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names}


def test_every_export_can_be_imported() -> None:
    """Every name in `__all__` can be imported."""
    assert [name for name in bandit.__all__ if not hasattr(bandit, name)] == []


def test_type_checkers_see_the_exports() -> None:
    """Type checkers see exactly the exported names."""
    assert names_for_type_checkers() | {"DISTRIBUTION"} == set(bandit.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    """A name that is not exported raises AttributeError, as in any module."""
    assert not hasattr(bandit, "ThomsonSampling")


def test_client_exports_are_documented() -> None:
    """Every export of the client has its own docstring."""
    exports = [getattr(bandit.client, name) for name in bandit.client.__all__]
    classes = [export for export in exports if isinstance(export, type)]
    assert classes
    assert [cls.__name__ for cls in classes if not cls.__doc__] == []


def test_another_package_of_this_name_is_an_import_error(tmp_path: Path) -> None:
    """If another `bandit` has replaced the package's root, importing the client fails."""
    foreign = tmp_path / "bandit"
    foreign.mkdir()
    (foreign / "__init__.py").write_text('"""Finds common security issues in Python code."""\n')
    for ours in ("client", "v1"):
        (foreign / ours).symlink_to(ROOT / "bandit" / ours)
    done = subprocess.run(
        [sys.executable, "-c", "import bandit.client"],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "ImportError: cannot import name 'DISTRIBUTION' from 'bandit'" in done.stderr
