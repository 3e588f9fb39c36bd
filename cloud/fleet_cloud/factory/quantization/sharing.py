"""From a kernel to its codebook: which entries, and which weight has which."""

from dataclasses import dataclass

import numpy as np

from fleet_cloud.factory.constraints import Array
from fleet_cloud.factory.quantization.changing import ChangingCodebook
from fleet_cloud.factory.quantization.codebooks import GRID, Codebook, ScaledCodebook
from fleet_cloud.factory.quantization.kernels import Kernel
from fleet_cloud.factory.quantization.kmeans import cluster_values
from fleet_cloud.factory.quantization.vectors import cluster_vectors
from fleet_cloud.factory.recipe.passes import Cluster


@dataclass(frozen=True)
class Terms:
    """``importance``: how much an error of each weight counts, in the kernel's shape; ``price``: what a bit
    costs beside importance x squared error."""

    importance: Array
    price: float = 0.0


def share_kernel(
    settings: Cluster, kernel: Kernel, terms: Terms, random: np.random.Generator
) -> Codebook | ScaledCodebook:
    """Return the codebook of one kernel. Weights that are zero have an entry that stays zero."""
    if settings.normalize:
        return _share_scaled(settings, kernel, terms)
    if settings.group > 1:
        return _share_groups(settings, kernel, random)
    return _share_single(settings, kernel, terms)


def _share_single(settings: Cluster, kernel: Kernel, terms: Terms) -> Codebook:
    by_channel = settings.per == "channel"
    rows, importance = (
        _by_channel(kernel, array) if by_channel else array[np.newaxis]
        for array in (kernel.weight, terms.importance)
    )
    books = [
        cluster_values(row, settings.entries, weights, (0.0,) if np.any(row == 0) else (), terms.price)
        for row, weights in zip(rows, importance, strict=True)
    ]
    begins = np.cumsum([0, *(len(book.centres) for book in books[:-1])])
    together = np.stack([book.indices + begin for book, begin in zip(books, begins, strict=True)])
    indices = _back_from_channels(kernel, together) if by_channel else together[0]
    return Codebook(
        entries=np.concatenate([book.centres for book in books]).astype(np.float32)[:, np.newaxis],
        free=np.concatenate([book.free for book in books]).astype(np.float32)[:, np.newaxis],
        indices=indices.ravel().astype(np.int32),
        mask=_mask(kernel),
        order=tuple(range(kernel.weight.ndim)),
    )


def _share_scaled(settings: Cluster, kernel: Kernel, terms: Terms) -> ScaledCodebook:
    scales = np.where(kernel.largest > 0, kernel.largest, np.float32(1))
    ratio = kernel.weight / scales
    fixed = (-1.0, 0.0, 1.0) if np.any(ratio == 0) else (-1.0, 1.0)
    importance = terms.importance * np.square(scales)  # of an error of the ratio
    found = cluster_values(ratio, settings.entries, importance, fixed, terms.price)
    codes, same = np.unique(np.round(found.centres * GRID), return_inverse=True)
    return ScaledCodebook(
        entries=(codes / GRID).astype(np.float32),
        scales=scales,
        free=(~np.isin(codes, np.array(fixed) * GRID)).astype(np.float32),
        indices=same[found.indices].astype(np.int32),
    )


def let_change(book: ScaledCodebook, kernel: Kernel) -> ChangingCodebook:
    """Return the codebook with the kernel's own weights behind it, so that a weight may take another entry.
    Zeros and the largest of each channel may not; bits cost nothing yet."""
    ends = np.abs(kernel.weight) == kernel.largest
    return ChangingCodebook(
        latent=kernel.weight,
        entries=book.entries,
        scales=book.scales,
        free=book.free,
        tolls=np.zeros((*book.scales.shape, len(book.entries)), np.float32),
        pinned=np.where(ends | (kernel.weight == 0), book.indices, np.int32(-1)),
    )


def price_ratio(kernel: Kernel, terms: Terms) -> Array:
    """Return what a bit costs beside the squared error of weight / largest of its channel, for each channel;
    the importance is the mean of the channel's."""
    importance = terms.importance.mean(axis=kernel.others, keepdims=True)
    largest = np.where(kernel.largest > 0, kernel.largest, 1.0)
    return np.asarray(terms.price / (importance * np.square(largest)))


def _share_groups(settings: Cluster, kernel: Kernel, random: np.random.Generator) -> Codebook:
    """Groups that are zero altogether share an entry of their own."""
    mask = _mask(kernel)
    groups, counted = (_in_groups(kernel, one, settings.group) for one in (kernel.weight, mask))
    empty = ~counted.any(axis=1)
    has_empty = bool(empty.any())
    entries = np.zeros((int(has_empty), settings.group))
    indices = np.zeros(len(groups), np.int64)
    if not empty.all():
        found = cluster_vectors(groups[~empty], counted[~empty], settings.entries - has_empty, random)
        entries = np.concatenate([entries, found.centres])
        indices[~empty] = found.indices + has_empty
    free = np.ones((len(entries), 1), np.float32)
    free[: int(has_empty)] = 0
    return Codebook(entries.astype(np.float32), free, indices.astype(np.int32), mask, kernel.order)


def _in_groups(kernel: Kernel, array: Array, size: int) -> Array:
    """Return the array as groups of neighbours in the file, the last one filled up with zeros."""
    flat = array.transpose(kernel.order).ravel()
    return np.pad(flat, (0, -len(flat) % size)).reshape(-1, size)


def _mask(kernel: Kernel) -> Array:
    return np.asarray((kernel.weight != 0).astype(kernel.weight.dtype))


def _by_channel(kernel: Kernel, array: Array) -> Array:
    """Return an array of the kernel's shape as (channels, weights of a channel)."""
    front = np.moveaxis(array, kernel.channels, range(len(kernel.channels)))
    count = int(np.prod([kernel.weight.shape[axis] for axis in kernel.channels]))
    return front.reshape(count, -1)


def _back_from_channels(kernel: Kernel, rows: Array) -> Array:
    shape = [kernel.weight.shape[axis] for axis in (*kernel.channels, *kernel.others)]
    return np.moveaxis(rows.reshape(shape), range(len(kernel.channels)), kernel.channels)
