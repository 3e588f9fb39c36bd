"""The state from which everything that draws or sums begins, so that a build can be repeated."""

from contextlib import suppress
from typing import Final

import keras
import tensorflow as tf

THREADS: Final = 4
"""Sums are split over this many threads on every machine, so that they round alike."""


def make_repeatable(seed: int) -> None:
    """Begin as a new process would: names count from one, random numbers from the seed."""
    fix_threads()
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def fix_threads() -> None:
    """Split sums alike everywhere. It comes before anything is computed, a model read or a variable made:
    later it changes nothing, and results would depend on what came first, and on the machine."""
    if tf.config.threading.get_intra_op_parallelism_threads() != THREADS:
        with suppress(RuntimeError):  # it computes already, as in tests: its threads stay as they are
            tf.config.threading.set_intra_op_parallelism_threads(THREADS)
            tf.config.threading.set_inter_op_parallelism_threads(THREADS)
