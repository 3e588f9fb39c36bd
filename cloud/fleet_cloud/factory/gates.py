"""Gates: what a variant must hold to be released. Decided on the validation split, fail closed."""

from collections.abc import Mapping

from fleet_cloud.errors import BuildError
from fleet_cloud.factory.recipe import Gates


def check_gates(gates: Gates, accuracies: Mapping[str, float]) -> None:
    """Raise `BuildError` (``build.gate``) for the first variant that does not hold its gates.

    ``accuracies``: by variant, on the validation split.
    """
    best = max(accuracies.values())
    for name, accuracy in accuracies.items():
        if (why := find_gate_failure(gates, accuracy, best)) is not None:
            raise BuildError(
                f"variant {name!r} does not hold its gate: {why}",
                hint="train longer, or change the gate in the recipe; nothing was registered",
                code="build.gate",
            )


def find_gate_failure(gates: Gates, accuracy: float, best: float) -> str | None:
    """Return why a variant fails, or none. At the boundary a gate holds; an accuracy that is not a
    number fails every gate."""
    if gates.accuracy_min is not None and not accuracy >= gates.accuracy_min:
        return f"validation accuracy {accuracy:.4f} is below accuracy_min {gates.accuracy_min}"
    if gates.accuracy_drop_max is not None and not best - accuracy <= gates.accuracy_drop_max:
        return f"validation accuracy drops by {best - accuracy:.4f}, at most {gates.accuracy_drop_max}"
    return None
