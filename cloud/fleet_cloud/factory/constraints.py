"""What a weight keeps while it is trained on: its zeros, its codebook, its grid.

A constraint stands for one weight of a network. It says what is trained in the weight's place, and how
the weight follows from that, differentiably. Constraints are values: training takes their parts as
variables and settles the result into a new constraint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

Array = NDArray[Any]
Tensor = Any
"""A tensor of the backend."""


@dataclass(frozen=True)
class Parts:
    """``trained``: float arrays that gradients change; ``held``: arrays that they do not (masks, indices,
    signs), though a `Schedule` may. Trained ones broadcast to the weight and are of its size, but for these,
    by their number: ``ratios`` stay as they are when the weight is scaled; ``rows``: arrays in the weight's
    shape that say which row of the trained array each weight has."""

    trained: tuple[Array, ...]
    held: tuple[Array, ...] = ()
    ratios: frozenset[int] = frozenset()
    rows: Mapping[int, Array] = field(default_factory=dict)


class Constraint(Protocol):
    """Implementations are frozen dataclasses of arrays and plain values, so that the cache can keep them;
    `register` makes them known to it."""

    kind: ClassVar[str]

    def split(self) -> Parts:
        """Return the parts from which training starts."""

    def compose(self, trained: Sequence[Tensor], held: Sequence[Tensor]) -> Tensor:
        """Return the weight, in its own shape, differentiable in ``trained``. Uses `keras.ops`."""

    def settle(self, parts: Parts) -> Self:
        """Return the constraint after training."""


@runtime_checkable
class Divisible(Constraint, Protocol):
    """A constraint that goes on when filters or neurons of its weight are removed."""

    def take(self, kept: Mapping[int, Array]) -> Self:
        """Return the constraint of what stays of the weight: by axis, the indices that stay."""


@runtime_checkable
class Scalable(Constraint, Protocol):
    """A constraint that still holds when output channels are scaled: zeros stay zeros."""

    def scale(self, factor: Array) -> Self:
        """Return the constraint of the weight times ``factor``, which broadcasts to its shape."""


class Schedule(Protocol):
    """Changes what is held, between steps of training: how many weights are zero, for example."""

    def due(self, steps: int) -> Sequence[int]:
        """Return the steps (of ``steps`` in all, from 0) before which `revise` is called, in order. After the
        last one nothing changes any more."""

    def revise(self, step: int, steps: int, parts: dict[str, Parts]) -> dict[str, tuple[Array, ...]]:
        """Return new held arrays by the path of the weight; what is left out stays."""


CONSTRAINTS: dict[str, type[Constraint]] = {}


def register(constraint: type[Constraint]) -> type[Constraint]:
    """Make a kind of constraint known by its name: the cache writes the name."""
    CONSTRAINTS[constraint.kind] = constraint
    return constraint
