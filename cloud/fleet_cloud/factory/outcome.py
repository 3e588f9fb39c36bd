"""What a pass gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet_cloud.factory.network import Network


@dataclass(frozen=True)
class Outcome:
    """``facts``: what the report says of the pass, as JSON can hold it: what it settled on, what it tried,
    its training history."""

    network: Network
    facts: Mapping[str, Any] = field(default_factory=dict)
