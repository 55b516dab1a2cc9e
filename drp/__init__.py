"""The pipeline in Python: reduce a visit, open what was published, go on with it elsewhere.

Examples
--------
>>> import drp
>>> visit = drp.open_visit("products")
>>> visit.name, visit.version
('PR900001_TG000101', 'V0000')
>>> drp.open_visit("nothing")
Traceback (most recent call last):
    ...
schemas.errors.MissingInputError: ...nothing: no such folder

These names are all there is: everything else may change without notice.
"""

from drp.cube import Cube
from drp.reduction import reduce
from drp.visit import Noise, Visit, open_visit
from schemas import VERSION
from schemas.errors import DrpError

__all__ = ["Cube", "DrpError", "Noise", "Visit", "open_visit", "reduce"]

__version__ = VERSION
