"""matplotlib as it comes, for the figures of `drp validate` and `drp plot`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def plain_matplotlib() -> Iterator[Any]:
    """Provide matplotlib's own settings, whatever the user's files and variables say.

    Its import reads `matplotlibrc` of the user, and the backend of MPLBACKEND, which a notebook
    sets to one that need not exist here.
    """
    import logging
    from importlib.util import find_spec

    # the warning that its cache folder is read-only does not concern the user
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    own = str(Path(found.origin).parent / "mpl-data" / "matplotlibrc")
    theirs = {name: os.environ.get(name) for name in ("MPLBACKEND", "MATPLOTLIBRC")}
    os.environ |= {"MPLBACKEND": "Agg", "MATPLOTLIBRC": own}
    try:
        import matplotlib
    finally:
        for name, value in theirs.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield matplotlib.rcParams
