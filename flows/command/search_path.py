"""Where Python searches for code: not in the folder in which the operator works.

This runs before anything else is imported. It imports nothing that Python has not loaded itself.
"""

import os
import sys


def forget_working_folder() -> None:
    """Remove the working folder from the places where Python searches for code.

    It stays if it holds this code, or if PYTHONPATH names it by its absolute path.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was deleted
        here = ""
    code = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    named = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p.startswith("/")]
    sys.path[:] = [p for p in sys.path if p not in ("", here) or (p or here) in (code, *named)]
