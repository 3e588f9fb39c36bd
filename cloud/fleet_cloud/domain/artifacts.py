"""What a version keeps for people, besides what devices get: reports, and models as Keras saves them.

Artifacts belong to a version and to no variant: no manifest names them, so no device has a right to one. They
are not part of what a version consists of, either: the same variants are the same version, whatever was
measured of them.
"""

import re
from typing import Final

from fleet_cloud.domain.people import Role

REPORT_PAGE: Final = "report.html"
REPORT_JSON: Final = "report.json"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(?:/[a-z0-9][a-z0-9._-]{0,63})?")
_FOR_VIEWERS: Final = frozenset({REPORT_PAGE, REPORT_JSON})


def is_artifact_name(name: str) -> bool:
    """Tell whether an artifact may be called so: ``report.html``, ``keras/int8``. It is no path."""
    return _NAME.fullmatch(name) is not None


def find_reader(name: str) -> Role:
    """Return who may read an artifact: reports are for everybody with a token; all else, such as a model that
    can be trained further, for those who may change what runs. Fails closed."""
    return Role.VIEWER if name in _FOR_VIEWERS else Role.OPERATOR
