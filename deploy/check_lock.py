"""Check that the lock file and pyproject.toml agree.

Needs only the standard library and pip's own parser.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Print each difference between required and locked packages; return the exit code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    required = [Requirement(r) for r in project["project"]["dependencies"]]
    groups = (
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    )
    required += [Requirement(r) for group in groups for r in group]
    text = (ROOT / "requirements.lock").read_text()
    locked = {
        canonicalize_name(n): v
        for n, v in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.MULTILINE)
    }
    faults = []
    for requirement in required:
        name = canonicalize_name(requirement.name)
        if name not in locked:
            faults.append(f"{name} is required but not locked")
        elif not requirement.specifier.contains(locked[name], prereleases=True):
            faults.append(f"{requirement} is required, but {locked[name]} is locked")
    direct = set(
        re.findall(
            r"^([A-Za-z0-9._-]+)==(?:(?!^\S).)*?\(pyproject\.toml", text, re.MULTILINE | re.DOTALL
        )
    )
    names = {canonicalize_name(r.name) for r in required}
    faults += [
        f"{n} is locked for pyproject.toml, which does not require it"
        for n in sorted(direct - names)
        if n in locked
    ]
    if "--hash=sha256:" not in text or re.search(r"https?://|--index-url|--find-links", text):
        faults.append("the lock file must contain hashes and must not name a host")
    # the image has what is needed to run, in the same versions
    image = (ROOT / "deploy" / "image.lock").read_text()
    pinned = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", image, re.MULTILINE))
    wanted = {canonicalize_name(Requirement(r).name) for r in project["project"]["dependencies"]}
    faults += [f"{name} is not in deploy/image.lock" for name in sorted(wanted - set(pinned))]
    faults += [
        f"{name} is {version} in deploy/image.lock, but {locked.get(name)} is locked"
        for name, version in pinned.items()
        if locked.get(canonicalize_name(name)) != version
    ]
    for fault in faults:
        print(f"requirements.lock: {fault}; run `make lock`", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
