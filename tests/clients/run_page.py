"""Run the examples of a page with a client's Python; what it lacks comes from the pipeline's.

usage: run_page.py PAGE SITE_PACKAGES ROOT, in a folder with `products`. Blocks that reduce a visit
are left out: they need the pipeline's own Python. Warnings are errors; the last line is JSON.
"""

import doctest
import json
import re
import sys
import warnings
from pathlib import Path

PAGE, SITE, ROOT = sys.argv[1:4]
sys.path += [SITE]  # behind the client's own packages
sys.path.insert(0, ROOT)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the client's own imports
    import lightkurve  # noqa: F401
    import pandas  # noqa: F401

    import drp

warnings.simplefilter("error")
blocks = re.findall(r"```pycon\n(.*?)```", Path(PAGE).read_text(), re.DOTALL)
text = "\n".join(block for block in blocks if "drp.reduce(" not in block)
examples = doctest.DocTestParser().get_doctest(text, {"drp": drp}, PAGE, PAGE, 0)
failed: list[str] = []
outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=failed.append)
sys.stdout.write("\n" + json.dumps({"tried": outcome.attempted, "failed": failed}) + "\n")
