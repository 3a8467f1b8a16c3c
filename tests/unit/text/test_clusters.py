import pytest

from flywheel.text.clusters import MOST, cluster_texts

PARCEL = ["where is my parcel", "my parcel is not here, where is it?", "parcel has not arrived, where is my parcel"]
CARD = ["please activate my card", "I cannot activate my new card", "card activation fails: activate card"]


def members(clustering):
    return sorted(sorted(cluster.members) for cluster in clustering.clusters)


def test_alike_texts_are_together_whatever_their_order():
    assert members(cluster_texts(PARCEL + CARD)) == [[0, 1, 2], [3, 4, 5]]
    mixed = [text for pair in zip(PARCEL, CARD, strict=True) for text in pair]
    assert members(cluster_texts(mixed)) == [[0, 2, 4], [1, 3, 5]]


def test_a_name_is_made_of_the_words_that_tell_a_group_from_the_others():
    names = {cluster.name for cluster in cluster_texts([*PARCEL, *CARD, *CARD[:2]]).clusters}
    assert all("parcel" in name or "card" in name for name in names)
    assert len(names) == 2
    assert [cluster.name for cluster in cluster_texts(["a b", "§§ 1 2"]).clusters] == ["other", "other 2"]


def test_a_word_of_one_text_names_no_group_of_several():
    said = ["where is my parcel zelda", "where is my parcel quentin", "my parcel where is it"]
    (group,) = cluster_texts(said).clusters
    assert len(group.members) == 3
    assert not {"zelda", "quentin", "it"} & set(group.name.split())
    (alone,) = cluster_texts(["parcel zelda"]).clusters
    assert alone.name == "parcel zelda"


def test_traffic_counts_for_the_nearest_group_if_it_could_have_joined_it():
    clustering = cluster_texts(PARCEL + CARD)
    shares = dict(zip((c.name for c in clustering.clusters), clustering.shares(
        ["where is the parcel of mine", "where is my parcel?", "activate the card", "bonjour le monde"]
    ), strict=True))  # fmt: skip
    parcel, card = (next(share for name, share in shares.items() if word in name) for word in ("parcel", "card"))
    assert (parcel, card) == (0.5, 0.25)


@pytest.mark.parametrize(("texts", "sizes"), [([], []), (["one"], [1]), (["", " "], [2]), (["", "x y"], [1, 1])])
def test_every_text_is_in_one_group(texts, sizes):
    clustering = cluster_texts(texts)
    assert [len(cluster.members) for cluster in clustering.clusters] == sizes
    assert clustering.shares(["x y"] if texts else []) is not None
    assert clustering.shares([]) == [0.0] * len(sizes)


def test_too_many_texts_are_refused():
    with pytest.raises(ValueError, match="more than"):
        cluster_texts(["x"] * (MOST + 1))
