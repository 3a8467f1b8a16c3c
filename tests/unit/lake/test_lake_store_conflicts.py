"""Conditional writes that the storage refuses for another which may never arrive, as S3 does with 409."""

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError

from flywheel.errors import LakeError
from flywheel.lake import store as module
from flywheel.lake.store import CONFLICTS, ObjectStore


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CONFLICT_PAUSE_S", 0)
    return ObjectStore(str(tmp_path / "lake"))


@pytest.fixture
def refused(monkeypatch):
    """Refuse that many conditional writes; returns the list of those that were tried."""

    def refuse(times, *, meanwhile=lambda: None):
        put, tried = obstore.put, []

        def refusing(_store, key, data, **how):
            tried.append(key)
            if len(tried) <= times:
                meanwhile()
                raise AlreadyExistsError("409 ConditionalRequestConflict")
            return put(_store, key, data, **how)

        monkeypatch.setattr(obstore, "put", refusing)
        return tried

    return refuse


def test_a_write_refused_for_one_that_never_arrives_is_tried_again(store, refused):
    tried = refused(2)
    assert store.put_if_absent("a", b"ours")
    assert store.get("a") == b"ours"
    assert len(tried) == 3


def test_a_write_refused_for_one_that_arrives_is_theirs(store, refused):
    put = obstore.put
    tried = refused(1, meanwhile=lambda: put(store._store, "a", b"theirs"))
    assert not store.put_if_absent("a", b"ours")
    assert store.get("a") == b"theirs"
    assert len(tried) == 1


def test_a_write_that_is_refused_for_good_is_an_error(store, refused):
    tried = refused(100)
    with pytest.raises(LakeError, match="lake/a: the storage refused"):
        store.put_if_absent("a", b"ours")
    assert len(tried) == CONFLICTS
    assert not store.exists("a")


def test_objects_go_in_one_request_that_leaves_nothing_when_it_is_cut_off(store, monkeypatch):
    put, multipart = obstore.put, []

    def noting(*args, use_multipart=None, **how):
        multipart.append(use_multipart)
        return put(*args, use_multipart=use_multipart, **how)

    monkeypatch.setattr(obstore, "put", noting)
    store.put("six", b"x" * 6_000_000)
    monkeypatch.setattr(module, "SINGLE_PUT", 100)
    store.put("large", b"x" * 101)
    assert multipart == [False, True]
    assert store.get("large") == b"x" * 101
