"""How much a device computes for one file: a bound that no content gets around."""

from dataclasses import dataclass

from fleet_shared.errors import CodecError


@dataclass
class Work:
    """``left``: units that may still be spent. A unit is one decision of the adaptive coder, about a
    microsecond on a workstation."""

    left: int

    def spend(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise CodecError("codebook data asks for more work than a device shall do")
