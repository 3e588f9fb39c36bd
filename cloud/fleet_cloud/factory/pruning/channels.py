"""Channels that must go together, by labels that flow through a network with its tensors.

Each index of a tensor's last axis carries a label. A layer that makes channels gives new labels; one that
carries them hands them on; where tensors meet element by element, their labels are united. Labels that are
united are one *channel*: it can only be removed everywhere at once. What each axis of each weight is
labelled with says what a removal leaves of the weight.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Role(StrEnum):
    """What an axis of a weight has to do with its channels."""

    MAKES = "makes"
    """The outputs of a kernel: its filters, its neurons."""
    TAKES = "takes"
    """The inputs of a kernel."""
    SCALES = "scales"
    """The factors of a batch normalisation."""
    FOLLOWS = "follows"
    """Biases, statistics, depthwise kernels, slopes."""


@dataclass(frozen=True)
class Slice:
    """Of the weight ``path`` of ``layer``: which channel each index along ``axis`` belongs to."""

    layer: str
    path: str
    axis: int
    channels: Labels
    role: Role


@dataclass(frozen=True)
class Size:
    """The entry ``key`` of the configuration of ``layer`` says how many ``channels`` there are (or the last
    number in it does)."""

    layer: str
    key: str
    channels: Labels


class Channels:
    """Labels given so far, which of them are one channel, and which channels are kept, with the reason."""

    def __init__(self) -> None:
        self.slices: list[Slice] = []
        self.sizes: list[Size] = []
        self._parents: list[int] = []
        self._kept: dict[int, str] = {}

    def give(self, count: int) -> Labels:
        """Return new labels."""
        begin = len(self._parents)
        self._parents += range(begin, begin + count)
        return np.arange(begin, begin + count)

    def unite(self, one: Labels, other: Labels) -> None:
        """From now on, the labels at the same index are one channel."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            low, high = sorted((self._find(a), self._find(b)))
            self._parents[high] = low

    def keep(self, labels: Labels, reason: str) -> None:
        """These shall not be removed. The first reason stays."""
        for label in labels.tolist():
            self._kept.setdefault(label, reason)

    def attach(self, layer: Any, weight: Any, axis: int, labels: Labels, role: Role) -> None:
        """Along ``axis``, the weight has one index for each of these."""
        axis %= len(weight.shape)
        if weight.shape[axis] != len(labels):
            raise ValueError(f"{weight.path} has {weight.shape} for {len(labels)} channels on axis {axis}")
        self.slices.append(Slice(str(layer.name), str(weight.path), axis, labels, role))

    def size(self, layer: Any, key: str, labels: Labels) -> None:
        """The layer's configuration tells the number of these."""
        self.sizes.append(Size(str(layer.name), key, labels))

    def resolve(self, labels: Labels) -> Labels:
        """Return one number for each channel, the same for labels that are united."""
        return np.array([self._find(label) for label in labels.tolist()], dtype=np.int64)

    def get_kept(self) -> dict[int, str]:
        """Return the reasons by channel, for those that are kept."""
        kept: dict[int, str] = {}
        for label, reason in self._kept.items():
            kept.setdefault(self._find(label), reason)
        return kept

    def _find(self, label: int) -> int:
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label
