"""Which versions run on an engine of their own, and which ride on their base's."""

import pytest
from pydantic import ValidationError

from flywheel.rollout import routing
from flywheel.rollout.riders import Rider, placed
from flywheel.rollout.routing import Shadow, Variant

WHO = {"actor": "t", "reason": "r"}
FIRST = routing.bootstrap("triage", Variant(version="v1", folder="/1"), actor="t")
RIDING = routing.with_shadow(FIRST, Shadow(version="v2", folder="/2", base="v1", adapter="/2/adapter"), **WHO)
BOTH = routing.with_shadow(RIDING, Shadow(version="v3", folder="/3"), **WHO)


def names(placement):
    return [variant.version for variant in placement.engines]


def test_an_adapter_rides_on_the_engine_of_its_base():
    assert placed(RIDING, lora=True).riders == {"v2": Rider("v1", "/2/adapter")}
    assert names(placed(BOTH, lora=True)) == ["v1", "v3"]


def test_where_engines_take_no_adapters_it_has_an_engine_of_its_own():
    assert (names(placed(RIDING, lora=False)), placed(RIDING, lora=False).riders) == (["v1", "v2"], {})


def test_when_its_base_leaves_it_gets_an_engine_of_its_own():
    after = routing.promoted(BOTH, "v3", **WHO)
    assert (names(placed(after, lora=True)), placed(after, lora=True).riders) == (["v3", "v2"], {})


def test_a_promoted_candidate_has_whole_weights_and_an_engine_of_its_own():
    after = routing.promoted(RIDING, "v2", **WHO)
    assert after.live == Variant(version="v2", folder="/2")
    assert names(placed(after, lora=True)) == ["v2"]


def test_nothing_rides_on_a_rider():
    chain = routing.with_shadow(RIDING, Shadow(version="v4", folder="/4", base="v2", adapter="/4/a"), **WHO)
    assert names(placed(chain, lora=True)) == ["v1", "v4"]


def test_an_adapter_names_its_base():
    with pytest.raises(ValidationError, match="both or neither"):
        Shadow(version="v2", folder="/2", adapter="/a")
