"""The tests mirror the rooms of the code; helpers that tests share lie in tests/support."""

from __future__ import annotations

import ast
from pathlib import Path

from schemas import ROOT

TESTS = ROOT / "tests"

HOUSES = ("drp", "flows", "tasks", "reference_data")


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


# calls of pathlib and os that look at the disk or change it
DISK_METHODS = """
absolute chmod exists expanduser glob hardlink_to is_block_device is_char_device is_dir
is_fifo is_file is_mount is_socket is_symlink iterdir lchmod lstat mkdir owner read_bytes
read_text readlink resolve rglob rmdir samefile stat symlink_to touch unlink write_bytes
write_text
"""

OS_CALLS = """
access chmod chown link listdir lstat makedirs mkdir open readlink remove removedirs
rename renames replace rmdir scandir stat statvfs symlink truncate unlink utime walk
"""

PATH_CALLS = """
abspath exists getmtime getsize isdir isfile islink ismount lexists realpath samefile
"""

# modules that look at the disk beside the disk layer: why, and how often at most
BESIDE = {
    "flows/command/console.py": ("the null device takes what a closed stream can't", 2),
    "flows/command/options.py": ("paths are made absolute before the command leaves its folder", 1),
    "flows/command/search_path.py": ("imports nothing, neither the disk layer", 1),
    "flows/command/surroundings.py": ("streams and folders, before anything is imported", 6),
    "flows/orders/intake.py": ("an order that another process has taken is no error", 1),
    "flows/logs.py": ("the null device takes what a closed stream can't", 1),
    "tasks/delivery/report/pdf.py": ("templates of the package itself", 1),
    "tasks/delivery/tgz.py": ("tarfile.open writes into an open file", 1),
    "tasks/delivery/viewer/page.py": ("the page of the package itself", 1),
    "tasks/kernels.py": ("runs before anything of the house is imported", 7),
    "tasks/numerics/times.py": ("the leap seconds of astropy", 1),
}

# they share no code with the pipeline; flows/simulate.py and validate.py translate their errors
APART = ("tasks/simulation/", "tasks/validation/")


def disk_calls(path: Path) -> list[str]:
    """Return the calls in a module that look at the disk or change it, without the disk layer."""
    calls = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name, owner = ast.unparse(node.func), ""
        if isinstance(node.func, ast.Attribute):
            owner, name = ast.unparse(node.func.value), node.func.attr
        beside = (
            (owner == "os" and name in OS_CALLS.split())
            or (owner == "os.path" and name in PATH_CALLS.split())
            or owner in ("shutil", "glob")
            or (name == "open" and owner in ("", "tarfile", "gzip", "fits", "afits"))
            or (name in DISK_METHODS.split() and owner not in ("disk", "os", "os.path", "np"))
        )
        calls += (
            [f"{path.relative_to(ROOT).as_posix()}:{node.lineno} {owner}.{name}"] if beside else []
        )
    return calls


def test_every_look_at_the_disk_passes_the_disk_layer() -> None:
    found: dict[str, list[str]] = {}
    for path in (p for house in HOUSES for p in (ROOT / house).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name != "tasks/files/disk.py" and not name.startswith(APART):
            found[name] = disk_calls(path)
    beside = [
        call for name, calls in found.items() for call in calls[BESIDE.get(name, ("", 0))[1] :]
    ]
    assert beside == []
    assert [name for name in BESIDE if not found.get(name)] == []


def test_every_lock_is_one_of_the_disk_layer() -> None:
    beside = [
        path.relative_to(ROOT).as_posix()
        for house in HOUSES
        for path in (ROOT / house).rglob("*.py")
        if "fcntl" in imported_modules(path)
    ]
    assert beside == ["tasks/files/disk.py"]
