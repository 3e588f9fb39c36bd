"""What is known of variants, and what two of them are beside each other."""

import base64

import msgspec
import numpy as np
import pytest

from fleet_cloud.entrypoints.cli.model_compare import Side, compare_facts, compare_sides, print_comparison
from fleet_cloud.entrypoints.cli.model_facts import (
    VariantFacts,
    compare_accuracy,
    read_passes,
    split_variant,
)
from fleet_cloud.entrypoints.cli.model_words import say_accuracy, say_count, say_drop, wrap
from fleet_cloud.entrypoints.cli.output import print_table
from fleet_cloud.errors import NotFound
from fleet_cloud.factory.evaluation.intervals import estimate_drop, estimate_share, estimate_unpaired_drop
from fleet_cloud.factory.evaluation.results import Latency
from fleet_shared.errors import InvalidName


def facts(
    name: str, right: list[bool], *, samples: str = "s", p50: float = 10.0, size: int = 1000
) -> VariantFacts:
    return VariantFacts(
        name=name,
        file_bytes=size,
        accuracy=estimate_share(sum(right), len(right)),
        latency_p50_us=p50,
        latency_p10_us=p50 * 0.9,
        latency_p90_us=p50 * 1.1,
        samples=samples,
        sample_count=len(right),
        right=base64.b64encode(np.packbits(right).tobytes()).decode(),
    )


def test_a_variant_is_named_after_its_version() -> None:
    reference, variant = split_variant("digits:1.2.0/int8")
    assert (str(reference), variant) == ("digits:1.2.0", "int8")
    assert split_variant("digits")[1] is None
    for text in ("digits:1.2.0/", "digits/In t8", "digits:x/int8", ""):
        with pytest.raises(InvalidName):
            split_variant(text)


def test_on_the_same_samples_accuracies_are_compared_pair_by_pair() -> None:
    random = np.random.default_rng(1)
    a, b = (random.random(203) < share for share in (0.9, 0.8))
    lost, paired = compare_accuracy(facts("a", a.tolist()), facts("b", b.tolist()))
    assert paired
    assert lost == estimate_drop(int((a & ~b).sum()), int((b & ~a).sum()), 203)


def test_on_other_samples_accuracies_are_compared_as_they_are() -> None:
    a, b = facts("a", [True] * 90 + [False] * 10), facts("b", [True] * 80 + [False] * 20, samples="t")
    lost, paired = compare_accuracy(a, b)
    assert not paired
    assert lost == estimate_unpaired_drop(estimate_share(90, 100), estimate_share(80, 100))
    assert compare_accuracy(a, VariantFacts(name="c", file_bytes=1)) == (None, False)


def test_a_comparison_says_what_is_more_than_chance() -> None:
    good, same = facts("a", [True] * 200), facts("b", [True] * 199 + [False], p50=10.5, size=500)
    bad = facts("c", [True] * 150 + [False] * 50, p50=20.0, size=500)
    accuracy, *_ = compare_facts(good, same, together=True)
    assert accuracy.significant is False
    assert accuracy.said == "-0.5 (-2.8 to +1.4), may be chance"
    lines = {one.measure: one for one in compare_facts(good, bad, together=True)}
    assert lines["accuracy"].significant
    assert lines["accuracy"].difference == pytest.approx(-0.25)
    assert (lines["file"].difference, lines["file"].said) == (-500, "-50.0 %")
    assert lines["latency"].significant
    close = {one.measure: one for one in compare_facts(good, same, together=True)}["latency"]
    assert (close.significant, close.said) == (False, "+5.0 %, within the spread")
    apart = {one.measure: one for one in compare_facts(good, bad, together=False)}["latency"]
    assert (apart.significant, apart.said) == (None, "+100.0 %, measured apart")
    assert lines["parameters"].first is None


def test_latencies_on_other_runtimes_are_compared_where_both_have_one() -> None:
    a, b = (
        msgspec.structs.replace(
            facts(name, [True] * 9),
            latencies=tuple(
                Latency(runtime=runtime, threads=1, runs=9, p50_us=us, p10_us=us, p90_us=us)
                for runtime, us in times.items()
            ),
        )
        for name, times in (("a", {"litert": 10, "tvm": 20}), ("b", {"litert": 10, "tvm": 30, "openvino": 5}))
    )
    lines = [one for one in compare_facts(a, b, together=True) if one.measure.startswith("latency, ")]
    assert [(one.measure, one.first, one.second, one.said, one.significant) for one in lines] == [
        ("latency, openvino", None, "5 us", "", None),
        ("latency, tvm", "20 us", "30 us", "+50.0 %, measured apart", None),
    ]


def test_versions_are_compared_by_the_names_of_their_variants() -> None:
    one, two, other = (VariantFacts(name=name, file_bytes=1) for name in ("fp32", "int8", "slim"))
    first, second = (
        Side(version="m:1.0.0", variants=[one, two]),
        Side(version="m:1.1.0", variants=[two, other]),
    )
    (found,) = compare_sides(first, second)
    assert (found.first, found.second) == ("m:1.0.0/int8", "m:1.1.0/int8")
    assert len(compare_sides(first, Side(version="m:1.1.0", variants=[other]))) == 2
    with pytest.raises(NotFound, match="no variant of the same name"):
        compare_sides(
            Side(version="m:1.0.0", variants=[one, two]), Side(version="m:2.0.0", variants=[other, other])
        )


def test_a_comparison_fits_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    a = facts("a-name-of-twenty-ones", [True] * 9_000 + [False] * 1000)
    (found,) = compare_sides(Side(version="m:1.0.0", variants=[a]), Side(version="m:1.1.0", variants=[a]))
    print_comparison(found)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    assert "pair by pair on the same 10000 samples" in printed
    assert "parameters" not in printed, "nobody knows them"


def test_numbers_are_said_shortly() -> None:
    assert say_accuracy(estimate_share(353, 359)) == "98.3 % (96.4 to 99.2)"
    assert say_accuracy(None) == "unknown"
    assert say_drop(estimate_drop(0, 0, 359)) == "0.0 (-1.1 to +1.1)"
    assert [say_count(one) for one in (9_999, 13_706, 2_500_000, 3 * 10**9)] == [
        "9999", "13.7 k", "2.5 M", "3.00 G",
    ]  # fmt: skip
    assert wrap(["one", "two", "three"], 8, "  ") == "one,\n  two,\n  three"
    assert wrap(["a", "long one with spaces", "b"], 8, "") == "a,\nlong one\nwith\nspaces,\nb"
    assert wrap(["int8"], 3, "") == "int8"


def test_passes_are_read_from_the_lineage() -> None:
    told = [
        {"pass": "int8", "settings": {"aware": False}, "facts": {}, "validation_score": 0.9, "seconds": 1}
    ]
    (step,) = read_passes(told)
    assert (step.name, step.settings, step.validation_score) == ("int8", {"aware": False}, 0.9)
    for odd in (None, 5, [5], [{"pass": 5}], "text"):
        assert read_passes(odd) == ()


def test_what_a_version_says_of_itself_does_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(("name",), [("\x1b[2Jdigits\r\n",), ("größe",)], empty="none")
    said = capsys.readouterr().out
    assert said == "NAME\n?[2Jdigits??\ngröße\n"
