"""Tables of numbers: CSV with a header, one row a sample, one column to be found from the others.

Every other column is a feature, in the order of the header: so a device gives them. Text is no feature: how
a device would write it is not for this side to guess. The features are brought to mean 0 and deviation 1 by
the preprocessing, which the contract carries.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.labelled import check_labels, invalid
from fleet_cloud.factory.recipe.dataset import Dataset
from fleet_cloud.factory.samples import Samples
from fleet_shared.manifest import Preprocessing

Array = NDArray[Any]
CLASSES_MAX: Final = 1000
"""More different values in the target are hardly classes."""


@dataclass(frozen=True)
class Table:
    """``rows``: as text; ``lines``: where each of them ends in the file, for messages."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> tuple[str, ...]:
        at = self.header.index(name)
        return tuple(row[at] for row in self.rows)

    def numbers(self, name: str) -> Array:
        """Return a column as numbers; refuse what is none, with its line."""
        values = np.empty(len(self.rows), dtype=np.float32)
        for at, text in enumerate(self.column(name)):
            values[at] = value = _read_number(text)
            if not np.isfinite(value):
                what = f"{text!r} is no number" if text.strip() else "the value is missing"
                raise invalid(
                    f"{self.path}, line {self.lines[at]}, column {name!r}: {what}",
                    "fill it in, remove the row, or list the column under dataset.ignore",
                )
        return values


def read_table(path: Path, dataset: Dataset) -> Samples:
    """Return a table's rows as samples (n, features); raise `RecipeError` (``recipe.data.invalid``)."""
    table = load_table(path)
    for name in (*dataset.ignore, *([dataset.target] if dataset.target else [])):
        if name not in table.header:
            raise invalid(f"{path} has no column {name!r}", f"its columns are {', '.join(table.header)}")
    features = [name for name in table.header if name not in {dataset.target, *dataset.ignore}]
    if not features:
        raise invalid(f"{path} has no column besides the target and those ignored", "features are columns")
    x = np.stack([table.numbers(name) for name in features], axis=1)
    if dataset.labels == "none" or dataset.target is None:
        return Samples(x, None, (), Preprocessing(), task=dataset.task, standardise=True)
    if dataset.task == "regression":
        y = table.numbers(dataset.target)[:, np.newaxis]
        return Samples(x, y, (), Preprocessing(), task="regression", standardise=True)
    labels, numbers = _find_classes(table, dataset.target)
    return Samples(x, numbers, labels, Preprocessing(), standardise=True)


def load_table(path: Path) -> Table:
    """Load a table; refuse rows of another length than the header, and a header that is none."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            read = [(tuple(row), reader.line_num) for row in reader if row]
    except OSError as exc:
        raise invalid(f"{path} cannot be read: {exc.strerror}", "check the path") from exc
    except (csv.Error, UnicodeDecodeError) as exc:
        raise invalid(f"{path} is no table: {exc}", "a CSV file in UTF-8, with commas and a header") from exc
    if len(read) < 2:
        raise invalid(f"{path} has no rows", "a header, then one row for each sample")
    header = tuple(name.strip() for name in read[0][0])
    _check_header(path, header)
    for row, line in read[1:]:
        if len(row) != len(header):
            raise invalid(
                f"{path}, line {line}: {len(row)} values for {len(header)} columns",
                "every row has as many values as the header",
            )
    return Table(path, header, tuple(row for row, _ in read[1:]), tuple(line for _, line in read[1:]))


def _check_header(path: Path, header: Sequence[str]) -> None:
    twice = {name for name in header if header.count(name) > 1}
    if twice or "" in header:
        what = f"the column {min(twice)!r} {header.count(min(twice))} times" if twice else "an unnamed column"
        raise invalid(f"{path} has {what}", "each column has a name of its own in the first line")
    if all(np.isfinite(_read_number(name)) for name in header):
        raise invalid(f"{path} begins with numbers", "the first line has the names of the columns")


def _find_classes(table: Table, target: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the labels, sorted (numbers by their value), and the class of each row."""
    values = [text.strip() for text in table.column(target)]
    labels = tuple(sorted(set(values), key=_rank))
    if len(labels) < 2:
        raise invalid(
            f"{table.path} has one class only: {target!r} is {labels[0]!r} everywhere",
            "nothing to tell apart",
        )
    if len(labels) > CLASSES_MAX:
        raise invalid(f"{table.path}: {target!r} has {len(labels)} different values", "task: regression")
    check_labels(labels, table.path)
    numbers = {label: number for number, label in enumerate(labels)}
    return labels, np.array([numbers[value] for value in values], dtype=np.int64)


def _rank(label: str) -> tuple[float, str]:
    number = _read_number(label)
    return (number if np.isfinite(number) else np.inf, label)


def _read_number(text: str) -> float:
    """Return the number that ``text`` is, or NaN."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
