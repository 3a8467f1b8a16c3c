"""The persistent near-duplicate index against the groups made from nothing, whatever happened before."""

import random
import threading

import numpy as np
import pytest

import flywheel.index.near as near
from flywheel.errors import BusyError, NotFoundInLakeError
from flywheel.index.files import ROOT, IndexFiles, erase_rows
from flywheel.index.near import NearDuplicateIndex
from flywheel.index.segments import Segment
from flywheel.lake.store import ObjectStore
from flywheel.text.minhash import near_duplicate_groups

WORDS = ["order", "refund", "parcel", "late", "broken", "screen", "login", "password", "invoice", "change", "address",
         "cancel", "plan", "upgrade", "phone"]  # fmt: skip


def corpus(count, seed=0):
    rng = random.Random(seed)
    texts = {}
    while len(texts) < count:
        base = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 12)))
        for _ in range(rng.randint(1, 4)):
            letters = list(base)
            for _ in range(rng.randint(0, 3)):
                letters[rng.randrange(len(letters))] = rng.choice("abcdefgh ")
            texts[f"row-{len(texts):04d}"] = "".join(letters)
    return {"empty-1": "", "empty-2": " !", **texts}


def part(texts, share, seed):
    rng = random.Random(seed)
    return {identity: text for identity, text in texts.items() if rng.random() < share}


def assert_as_from_nothing(groups, texts, threshold):
    ids = list(texts)
    assert groups.of(ids) == near_duplicate_groups(list(texts.values()), threshold)
    for seed in range(3):
        some = list(part(texts, 0.6, seed))
        assert groups.of(some) == near_duplicate_groups([texts[identity] for identity in some], threshold)


@pytest.fixture
def store(tmp_path):
    return ObjectStore(tmp_path)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_any_history_gives_the_groups_of_one_look(store, threshold):
    texts = corpus(150)
    for turn in range(12):  # rows come, go and change; segments are merged on the way
        now = part(texts, 0.8, seed=turn)
        changed = random.Random(turn).choice(list(now))
        texts[changed] = now[changed] = f"{now[changed]} and more of turn {turn}"
        assert_as_from_nothing(NearDuplicateIndex(store, "f", threshold).update(now), now, threshold)
    assert len(store.list(f"{ROOT}/f")) <= 2 + near._SEGMENTS


def test_only_new_rows_are_computed(store, monkeypatch):
    texts = corpus(100)
    index = NearDuplicateIndex(store, "f", 0.8)
    index.update(texts)
    computed = []
    real = near.band_keys
    monkeypatch.setattr(near, "band_keys", lambda normals, t: computed.append(len(normals)) or real(normals, t))
    more = {**texts, "late": texts["row-0007"] + "!", "other": "nothing like it has been said so far"}
    counts = index.update(more).counts
    assert computed == [2]
    assert (counts.computed, counts.reused, counts.removed) == (2, len(texts), 0)
    before = store.list(ROOT)
    assert index.update(more).counts.computed == 0
    assert store.list(ROOT) == before


def test_nothing_of_a_text_is_stored_and_erased_rows_leave_every_segment(store):
    texts = corpus(60)
    first = {identity: text for identity, text in texts.items() if identity < "row-0040"}
    NearDuplicateIndex(store, "f", 0.8).update(first)
    NearDuplicateIndex(store, "f", 0.8).update(texts)
    NearDuplicateIndex(store, "g", 0.5).update(first)

    def stored():
        return b"".join(store.get(key) for key in store.list(ROOT))

    assert not any(word.encode() in stored() for word in WORDS)
    gone = {"row-0003", "row-0010", "row-0055", "row-9999"}
    assert erase_rows(store, gone, dry=True) == 5
    assert b"row-0003" in stored()
    assert erase_rows(store, gone) == 5
    assert not any(identity.encode() in stored() for identity in gone)
    left = {identity: text for identity, text in texts.items() if identity not in gone}
    groups = NearDuplicateIndex(store, "f", 0.8).update(left)
    assert groups.counts.computed == 0
    assert_as_from_nothing(groups, left, 0.8)


def test_rows_that_were_similar_through_an_erased_one_are_compared_again(store):
    a, b, c = "abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", "cdefghijklmnopqrstuv"
    texts = {"a": a, "b": b, "c": c}
    NearDuplicateIndex(store, "f", 0.7).update(texts)
    erase_rows(store, {"b"})
    left = {"a": a, "c": c}
    assert near_duplicate_groups([a, c], 0.7) == [0, 0]
    assert NearDuplicateIndex(store, "f", 0.7).update(left).of(["a", "c"]) == [0, 0]


@pytest.mark.parametrize("harm", ["flipped", "cut", "missing", "manifest"])
def test_a_damaged_segment_is_named_and_built_again(store, harm):
    texts = corpus(60)
    NearDuplicateIndex(store, "f", 0.8).update(part(texts, 0.5, 1))
    NearDuplicateIndex(store, "f", 0.8).update(texts)
    name = store.list(f"{ROOT}/f")[0 if harm == "manifest" else -1]
    data = store.get(name)
    if harm == "missing":
        store.delete([name])
    else:
        store.put(name, data[: len(data) // 2] + (b"" if harm != "flipped" else b"?" + data[len(data) // 2 + 1 :]))
    groups = NearDuplicateIndex(store, "f", 0.8).update(texts)
    assert groups.counts.rebuilt == [name]
    assert groups.counts.computed == len(texts)
    assert_as_from_nothing(groups, texts, 0.8)
    assert not NearDuplicateIndex(store, "f", 0.8).update(texts).counts.rebuilt
    assert name not in store.list(ROOT)


def test_a_damaged_segment_is_deleted_by_an_erasure(store):
    NearDuplicateIndex(store, "f", 0.8).update(corpus(10))
    name = next(key for key in store.list(ROOT) if "/segments/" in key)
    store.put(name, b"?" + store.get(name))
    assert erase_rows(store, {"row-0001"}, dry=True) == 0
    erase_rows(store, {"row-0001"})
    assert name not in store.list(ROOT)
    assert NearDuplicateIndex(store, "f", 0.8).update(corpus(10)).counts.rebuilt == [name]


def test_killed_before_the_manifest_nothing_has_happened_and_the_rest_is_tidied(store, monkeypatch):
    texts = corpus(40)
    NearDuplicateIndex(store, "f", 0.8).update(part(texts, 0.5, 1))
    before = set(store.list(ROOT))
    real = ObjectStore.put_if_absent

    def killed(self, key, data):
        if "/manifests/" in key:
            raise KeyboardInterrupt
        return real(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put_if_absent", killed)
        with pytest.raises(KeyboardInterrupt):
            NearDuplicateIndex(store, "f", 0.8).update(texts)
    (orphan,) = set(store.list(ROOT)) - before
    groups = NearDuplicateIndex(store, "f", 0.8).update(texts)
    assert not groups.counts.rebuilt
    assert_as_from_nothing(groups, texts, 0.8)
    assert orphan not in store.list(ROOT)


def test_writers_at_once_lose_nothing(store):
    texts = corpus(40)
    results, failures = [], []

    def work():
        try:
            results.append(NearDuplicateIndex(store, "f", 0.8).update(texts))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    for groups in results:
        assert_as_from_nothing(groups, texts, 0.8)
    assert sum(groups.counts.computed == len(texts) for groups in results) == 1
    assert len(store.list(ROOT)) == 2


def test_a_writer_that_lost_looks_up_what_the_winner_added(store, monkeypatch):
    """Between the reading and the commit of one writer another one commits rows similar to its own."""
    texts = corpus(40)
    real, done = IndexFiles.commit, []

    def slow(self, seen, added, *, replace):
        if not done:
            done.append(True)
            NearDuplicateIndex(store, "f", 0.8).update(part(texts, 0.5, 2))
        return real(self, seen, added, replace=replace)

    monkeypatch.setattr(IndexFiles, "commit", slow)
    groups = NearDuplicateIndex(store, "f", 0.8).update(texts)
    assert 0 < groups.counts.computed < len(texts)
    assert_as_from_nothing(groups, texts, 0.8)


def test_a_state_that_appears_while_somebody_looks_is_read_and_not_taken_for_an_empty_one(store, monkeypatch):
    texts = corpus(30)
    look = store.list
    looks = []

    def list_(prefix="", **more):
        found = look(prefix, **more)
        looks.append(prefix)
        if len(looks) == 1:  # nothing is there; before the next call there is
            NearDuplicateIndex(store, "f", 0.8).update(texts)
        return found

    monkeypatch.setattr(store, "list", list_)
    found = NearDuplicateIndex(store, "f", 0.8).update(texts)
    assert (found.counts.computed, found.counts.reused) == (0, len(texts))
    assert len([key for key in look(ROOT) if key.endswith("00000001.json")]) == 1
    assert_as_from_nothing(found, texts, 0.8)


def test_who_never_sees_a_state_that_stays_says_so(store, monkeypatch):
    NearDuplicateIndex(store, "f", 0.8).update(corpus(5))

    def gone(key):
        raise NotFoundInLakeError(key)

    monkeypatch.setattr(store, "get", gone)
    with pytest.raises(BusyError, match="run the command again"):
        NearDuplicateIndex(store, "f", 0.8).update(corpus(5))


def test_labels_that_were_joined_in_both_directions_end_in_one():
    """Two updates may find the same two groups from either side; a stored segment that says so must not loop."""
    keys = np.zeros((2, 4), dtype=np.uint32)
    for merged in ([(5, 9), (9, 5)], [(9, 5), (5, 9)], [(5, 5)], [(5, 9), (5, 7), (7, 9)]):
        state = near._State()
        state.apply(Segment(["a", "b"], np.zeros(2, dtype=np.uint64), np.array([5, 9]), keys, merged=merged))
        assert state.label("a") == 5
        assert state.label("b") == (9 if merged == [(5, 5)] else 5)
