"""``presence``, device to cloud, retained: is the device there?

``session`` is drawn at each connect. The will carries the same session, so that a late will of
an older connection does not declare a device offline that is back already.
"""

from typing import ClassVar

from fleet_shared.limits import PRESENCE_BYTES
from fleet_shared.wire import Document, Word


class Presence(Document, frozen=True, kw_only=True):
    LIMIT_BYTES: ClassVar[int] = PRESENCE_BYTES

    session: Word
    online: bool
