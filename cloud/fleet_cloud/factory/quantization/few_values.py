"""What a report says of weights that take few values."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def entropy(symbols: Array) -> float:
    """Return the entropy of the symbols' frequencies, in bits for one symbol: what a coder without memory
    needs at least."""
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def conditional_entropy(symbols: Array, contexts: Array) -> float:
    """Return the bits for one symbol when its context (its channel, say) is known and has a code of its own.
    Both arrays have one shape."""
    pairs = np.stack([contexts.ravel(), symbols.ravel()])
    _, joint = np.unique(pairs, axis=1, return_inverse=True)
    return entropy(joint) - entropy(contexts)


def describe(layer: str, before: Array, after: Array, bits_per_weight: float) -> dict[str, Any]:
    """Return what the report says of one layer. ``bits_per_weight``: the entropy of its indices."""
    return {
        "layer": layer,
        "mean_squared_error": float(np.square(after.astype(np.float64) - before).mean()),
        "sparsity": float((after == 0).mean()),
        "distinct": len(np.unique(after)),
        "entropy_bits_per_weight": round(bits_per_weight, 4),
    }
