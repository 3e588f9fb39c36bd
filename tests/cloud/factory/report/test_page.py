"""The page: whole, the same each time, fetching nothing, and safe with whatever names users choose."""

import re
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from fleet_cloud.factory.evaluation.scores import score_classes
from fleet_cloud.factory.report.document import PassReport, Report
from fleet_cloud.factory.report.figures import draw_confusion
from fleet_cloud.factory.report.page import render_page
from tests.cloud.factory.report.reports import five_variants, regression, without_data

VOID = {"meta"}
EVIL = "<script>alert('1')</script>&\"$x^2$ \x00\u202e" + "日本"


class Reader(HTMLParser):
    """Notes tags, ids and text; fails where tags do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def five() -> str:
    return render_page(five_variants())


def test_the_page_shows_every_variant_with_its_intervals(five: str) -> None:
    found = read(five)
    for word in ("int8-pruned", "98.6 %", "96.8 to 99.4", "13.7 k", "82.2 k", "60 %", "goal_reached yes"):
        assert word in found.text, word
    assert "prune-weights 0.8, int8" in found.text, "what was tried before"
    assert "accuracy_drop_max" in found.text
    assert "3f3f3f3f" in found.text
    ids = [str(attributes["id"]) for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert sum(tag == "svg" for tag, _ in found.tags) == 2 + 1 + 5 + 5 + 3 + 2, (
        "trade-offs, the float training, and of variants: weights, confusion, trainings, sensitivities"
    )


def test_the_page_shows_what_was_cut_and_what_was_left_alone(five: str) -> None:
    found = read(five)
    for words in (
        "score l2, scope layer, operations 82.2 k -> 57.0 k, parameters 13.7 k -> 9100, filters 40 -> 28",
        "prune-filters: widths layers before after conv2d, conv2d_2 8 8 conv2d_1 32 20",
        "prune-filters: 2 layers left alone",
        "odd LayerNormalization is not known to pruning",
        "tune epochs 3",
        "loss and validation score of prune-filters by epoch",
    ):
        assert words in found.text or words in five, words


def test_every_reference_within_the_page_has_its_end(five: str) -> None:
    ids = set(re.findall(r'id="([^"]+)"', five))
    references = set(re.findall(r'href="#([^"]+)"', five)) | set(re.findall(r"url\(#([^)]+)\)", five))
    assert references
    assert references <= ids


def test_nothing_is_fetched_and_nothing_runs(five: str) -> None:
    found = read(five)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object", "image"}
    addresses = [
        value
        for _, attributes in found.tags
        for name, value in attributes.items()
        if name in {"src", "href", "xlink:href"} and value and not value.startswith("#")
    ]
    assert addresses == []
    assert "@import" not in five
    bare = re.sub(r'xmlns(:xlink)?="http://www.w3.org/[^"]+"', "", five)
    assert "http" not in bare.replace("http-equiv", "")


def test_the_same_report_gives_the_same_page() -> None:
    assert render_page(regression()) == render_page(regression())


@pytest.mark.parametrize("report", [without_data(), regression()], ids=["without data", "regression"])
def test_what_is_unknown_is_left_out(report: Report) -> None:
    found = read(render_page(report))
    assert "taken for" not in found.text
    assert "nan" not in found.text.lower()
    assert "None" not in found.text
    if report.task == "regression":
        assert "0.9899" in found.text, "R²"
    else:
        assert "accuracy is unknown" in found.text
        assert "Trade-offs" not in found.text
        assert "Lineage" not in found.text


@pytest.mark.parametrize(("count", "drawn"), [(31, True), (60, True), (61, False)])
def test_many_classes_are_drawn_as_long_as_they_can_be_seen(count: int, drawn: bool) -> None:
    truth = np.arange(4 * count) % count
    outputs = np.eye(count)[np.where(truth == 7, 3, truth)]
    classes = score_classes(outputs, truth, tuple(f"class {number}" for number in range(count)))
    assert (draw_confusion("c", classes) is not None) is drawn
    one = five_variants().variants[0]
    evaluation = msgspec.structs.replace(one.evaluation, classification=classes)
    variant = msgspec.structs.replace(one, evaluation=evaluation)
    found = read(render_page(msgspec.structs.replace(five_variants(), variants=(variant,))))
    assert "class 7 class 3 4 100.0 %" in found.text, "the most common mistake"


def test_a_page_of_a_thousand_classes_shows_what_is_confused_most() -> None:
    """Neither a picture nor a table of a thousand rows."""
    truth = np.arange(3000) % 1000
    taken = np.where(truth == 7, 3, np.where((truth == 500) & (np.arange(3000) < 2000), 501, truth))
    labels = tuple(f"class {number}" for number in range(1000))
    one = five_variants().variants[0]
    evaluation = msgspec.structs.replace(
        one.evaluation, classification=score_classes(np.eye(1000)[taken], truth, labels)
    )
    variant = msgspec.structs.replace(one, evaluation=evaluation)
    page = render_page(msgspec.structs.replace(five_variants(), variants=(variant,)))
    found = read(page)
    assert "Most common mistakes among 1 000 classes" in found.text
    assert "class 7 class 3 3 100.0 % class 500 class 501 2 66.7 %" in found.text
    assert "The 100 classes that are found least" in found.text
    assert len(page) < len(render_page(five_variants()))


def test_names_and_labels_are_text() -> None:
    whole = five_variants()
    one = whole.variants[1]
    classes = one.evaluation.classification
    assert classes is not None
    labels = tuple(msgspec.structs.replace(each, label=EVIL) for each in classes.classes)
    evaluation = msgspec.structs.replace(
        one.evaluation, variant=EVIL, classification=msgspec.structs.replace(classes, classes=labels)
    )
    step = PassReport(name=EVIL, settings={EVIL: EVIL}, facts={EVIL: EVIL, "history": [{"loss": 1.0}]})
    variant = msgspec.structs.replace(one, evaluation=evaluation, passes=(step,), target=EVIL)
    evil = msgspec.structs.replace(
        whole,
        model=EVIL,
        labels=(EVIL,) * 10,
        variants=(variant,),
        lineage={EVIL: EVIL, "recipe": {EVIL: EVIL}},
    )
    page = render_page(evil)
    found = read(page)
    assert not any(tag == "script" for tag, _ in found.tags)
    assert "\x00" not in page
    assert "\u202e" not in page
    assert "<script>alert('1')</script>&\"$x^2$" in found.text, "and it is shown as it was written"
    assert "日本" in page


def test_of_a_long_name_of_a_tensor_the_end_is_shown() -> None:
    """Converters write the whole way to a layer: what tells tensors apart comes last."""
    report = five_variants()
    variant = report.variants[0]
    weights = variant.evaluation.weights
    (tensor,) = weights.tensors
    long = msgspec.structs.replace(tensor, name="wrapper/" * 30 + "conv_7")
    changed = msgspec.structs.replace(
        variant.evaluation, weights=msgspec.structs.replace(weights, tensors=(long,))
    )
    page = render_page(
        msgspec.structs.replace(report, variants=(msgspec.structs.replace(variant, evaluation=changed),))
    )
    assert "wrapper/conv_7" in page
    assert "wrapper/" * 10 not in page
