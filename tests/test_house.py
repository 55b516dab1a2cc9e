"""The tests mirror the rooms of the code; helpers that tests share lie in tests/support."""

from __future__ import annotations

import ast
from pathlib import Path

from schemas import ROOT

TESTS = ROOT / "tests"


def imported_modules(path: Path) -> set[str]:
    """Return the modules that a file imports, at its top or within functions."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{name.name}" for name in node.names}
    return modules


def test_no_test_imports_from_a_test() -> None:
    borrowed = [
        (path.relative_to(ROOT).as_posix(), module)
        for path in sorted(TESTS.rglob("*.py"))
        for module in imported_modules(path)
        if module.startswith("tests.") and ".test_" in module
    ]
    assert borrowed == []


def test_every_folder_of_tests_mirrors_a_room() -> None:
    folders = {p.parent.relative_to(TESTS) for p in TESTS.rglob("test_*.py")} - {Path()}
    houses = (ROOT / "tasks", ROOT)  # rooms of tasks lie one level higher in tests
    assert [f for f in folders if not any((h / f / "__init__.py").is_file() for h in houses)] == []
