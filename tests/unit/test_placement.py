from hypothesis import given
from hypothesis import strategies as st

from flywheel.placement import Need, room, unplaceable


def test_the_sum_of_small_nodes_is_not_one_large_node():
    nodes = [{"CPU": 2.0}, {"CPU": 2.0}, {"CPU": 2.0}]
    assert room({"CPU": 3}, nodes) == 0
    assert room({"CPU": 2}, nodes) == 3
    assert room({"CPU": 0.5}, nodes) == 12


def test_every_resource_must_be_on_the_same_node():
    assert room({"CPU": 1, "GPU": 1}, [{"CPU": 8.0}, {"GPU": 4.0}]) == 0
    assert room({"CPU": 1, "GPU": 1}, [{"CPU": 8.0, "GPU": 2.0}, {"GPU": 4.0, "CPU": 1.0}]) == 3


def test_what_asks_nothing_fits_anywhere():
    assert unplaceable([Need("idle tasks", 10, {"CPU": 0.0}, "nothing")], []) == []


def test_the_sentence_names_what_where_and_the_way_out():
    need = Need("training workers", 4, {"CPU": 1, "GPU": 1}, "training.num_workers")
    (said,) = unplaceable([need], [{"CPU": 8.0, "GPU": 2.0}])
    assert "training workers: 4 with 1 CPU, 1 GPU each" in said
    assert "holds 2" in said
    assert said.endswith("lower training.num_workers")


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
    st.integers(1, 20),
)
def test_tenths_are_counted_as_ray_counts_them(tenths, each):
    nodes = [{"CPU": value / 10} for value in tenths]
    assert room({"CPU": each / 10}, nodes) == sum(value // each for value in tenths)
