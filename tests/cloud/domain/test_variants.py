"""Which variant a device gets, at the boundary of each rule."""

import math

import msgspec

from fleet_cloud.domain.variants import ACCURACY_SLACK, MEMORY_SHARE, choose_variant, find_obstacles
from fleet_shared.messages.reported import Failure, RuntimeFact
from fleet_shared.names import VariantName
from tests.cloud.domain.test_rules import DYNAMIC, FACTS, chosen, variant, version

BEST = 0.75


def test_the_rules_in_numbers() -> None:
    assert (ACCURACY_SLACK, MEMORY_SHARE) == (0.01, 0.5)


def test_exactly_one_point_less_is_as_good_and_anything_more_is_not() -> None:
    edge = BEST - ACCURACY_SLACK
    fp32 = variant("fp32", 100, BEST)
    assert chosen(choose_variant(version(fp32, variant("int8", 25, edge)), FACTS)) == "int8"
    below = variant("int8", 25, math.nextafter(edge, 0))
    assert chosen(choose_variant(version(fp32, below), FACTS)) == "fp32"


def test_the_best_is_found_among_those_that_fit_only() -> None:
    giant = variant("giant", 1000, 0.99, memory=10**6)
    assert (
        chosen(choose_variant(version(giant, variant("a", 50, 0.8), variant("b", 20, 0.795)), FACTS)) == "b"
    )


def test_one_unknown_accuracy_leaves_the_size_to_decide() -> None:
    known = variant("fp32", 100, 0.99), variant("poor", 20, 0.1)
    assert chosen(choose_variant(version(*known, variant("x", 60, None)), FACTS)) == "poor"


def test_of_the_same_size_the_first_name_wins_in_any_order() -> None:
    a, b = variant("a", 10), variant("b", 10)
    assert chosen(choose_variant(version(a, b), FACTS)) == chosen(choose_variant(version(b, a), FACTS)) == "a"


def test_half_of_the_memory_may_be_needed_and_no_byte_more() -> None:
    assert FACTS.memory_bytes == 1000
    assert find_obstacles(variant("fits", 1, memory=500), FACTS) == ()
    (why,) = find_obstacles(variant("big", 1, memory=501), FACTS)
    assert "501" in why
    assert "1000" in why


def test_any_one_of_several_runtimes_is_enough() -> None:
    tflite, litert = RuntimeFact(name="tflite_runtime", version="2.14"), FACTS.runtimes[0]
    for order in ((tflite, litert), (litert, tflite)):
        facts = msgspec.structs.replace(FACTS, runtimes=order)
        assert find_obstacles(variant("x", 1, ops=(DYNAMIC,)), facts) == ()
    only = msgspec.structs.replace(FACTS, runtimes=(tflite, RuntimeFact(name="abacus", version="1")))
    assert len(find_obstacles(variant("x", 1, ops=(DYNAMIC,)), only)) == 2


def test_no_runtime_at_all_is_said() -> None:
    facts = msgspec.structs.replace(FACTS, runtimes=())
    assert find_obstacles(variant("x", 1), facts) == ("the device has no runtime",)
    refused = choose_variant(version(variant("x", 1)), facts)
    assert isinstance(refused, Failure)
    assert refused.code == "variant.none_fits"
    assert "m:1.0.0" in refused.message
    assert "x: the device has no runtime" in refused.message
    assert refused.hint


def test_a_forced_variant_is_the_only_one_that_is_looked_at() -> None:
    worst = variant("worst", 1000, 0.1)
    assert chosen(choose_variant(version(variant("a", 1), worst), FACTS, VariantName("worst"))) == "worst"
    refused = choose_variant(version(variant("a", 1)), FACTS, VariantName("nothing"))
    assert isinstance(refused, Failure)
