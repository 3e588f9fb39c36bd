"""What a file is worth: its answers to the test images, its bytes, its time. Both sides alike."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fleet_cloud.factory.canonical import canonicalise
from fleet_cloud.factory.evaluation.running import run_outputs, time_files
from fleet_cloud.factory.wire import measure_wire
from fleet_shared.pixels import to_real
from tests.bench.compress.data import Images
from tests.bench.compress.models import PREPROCESSING
from tests.bench.compress.plan import find_method, name_float
from tests.bench.compress.results import Key, Made

Answers = NDArray[np.bool_]
MADE: Final = tuple(field.name for field in fields(Made))


@dataclass(frozen=True)
class Score:
    """Bytes are of the file in its canonical form, without metadata. ``xz_bytes``: through xz, the same for
    every side; ``wire_bytes``: in the smallest of Fleet's encodings. ``p50_us``: none where it was not
    timed; ``p50_share``: of what its float model took in the same turns."""

    made: Made
    answers: Answers
    file_bytes: int
    xz_bytes: int
    wire_bytes: int
    p50_us: float | None = None
    p50_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it: the answers as bits, in base64."""
        bits = b64encode(np.packbits(self.answers).tobytes()).decode()
        made = {name: value for name, value in asdict(self.made).items() if value is not None}
        return {
            **made,
            "file_bytes": self.file_bytes,
            "xz_bytes": self.xz_bytes,
            "wire_bytes": self.wire_bytes,
            "p50_us": self.p50_us,
            "p50_share": self.p50_share,
            "images": len(self.answers),
            "answers": bits,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Score":
        rest = dict(given)
        bits = np.frombuffer(b64decode(rest.pop("answers")), np.uint8)
        answers = np.unpackbits(bits, count=rest.pop("images")).astype(np.bool_)
        return cls(Made(**{name: rest.pop(name) for name in MADE if name in rest}), answers, **rest)


def score_all(made: Sequence[Made], folder: Path, test: Images, timed: bool) -> list[Score]:
    """Return a score for each file; answers are kept beside the files, for they take the longest."""
    contents = {one.key: canonicalise(one.file(folder).read_bytes()) for one in made}
    times = _time(made, contents, test) if timed else {}
    floats = {key[1]: time for key, time in times.items() if key[0] == "fleet"}
    return [_score(one, contents[one.key], folder, test, times.get(one.key), floats) for one in made]


def _score(
    made: Made,
    content: bytes,
    folder: Path,
    test: Images,
    p50_us: float | None,
    floats: Mapping[str, float],
) -> Score:
    wire, whole = measure_wire(content), floats.get(name_float(0, find_method(made.method).model))
    return Score(
        made,
        _load_answers(made, content, folder, test),
        file_bytes=len(content),
        xz_bytes=wire["xz"],
        wire_bytes=min(count for name, count in wire.items() if name != "xz"),
        p50_us=p50_us,
        p50_share=None if p50_us is None or whole is None else p50_us / whole,
    )


def _load_answers(made: Made, content: bytes, folder: Path, test: Images) -> Answers:
    file = made.file(folder).with_suffix(f".{len(test.y)}.npy")
    if not file.is_file() or file.stat().st_mtime < made.file(folder).stat().st_mtime:
        np.save(file, answer(content, test))
    answers: Answers = np.load(file)
    return answers


def answer(content: bytes, test: Images) -> Answers:
    """Return for each image whether LiteRT tells it right."""
    right: Answers = run_outputs(content, to_real(test.x, PREPROCESSING)).argmax(axis=1) == test.y
    return right


def _time(made: Sequence[Made], contents: Mapping[Key, bytes], test: Images) -> dict[Key, float]:
    """Of each method the first seed: its other files are of the same shape."""
    first: dict[tuple[str, str], Made] = {}
    for one in made:
        first.setdefault((one.side, one.method), one)
    keys = {" ".join(map(str, one.key)): one.key for one in first.values()}
    files = {name: contents[key] for name, key in keys.items()}
    found = time_files(files, to_real(test.x[:64], PREPROCESSING), limit_s=2.0 * len(files))
    return {keys[name]: latency.p50_us for name, latency in found.items()}
