"""The near-duplicate index on a real S3 server: writers at once, an erasure, and the groups made from nothing."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from flywheel.index.files import ROOT, erase_rows
from flywheel.index.near import NearDuplicateIndex
from flywheel.lake.store import ObjectStore
from flywheel.text.minhash import near_duplicate_groups

pytestmark = [pytest.mark.s3, pytest.mark.slow]


def test_the_index_behaves_as_on_a_folder(s3_environment):
    store = ObjectStore(s3_environment.new_lake_uri(), s3_environment.options)
    said = ["my order never arrived", "the invoice is wrong again", "please cancel the plan of my phone"]
    texts = {f"row-{n:02d}": f"{said[n % 3]} {'!' * (n % 4)} {n // 12}" for n in range(48)}

    def update(rows):
        return NearDuplicateIndex(store, "f", 0.8).update(rows)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(update, [texts] * 4))
    wanted = near_duplicate_groups(list(texts.values()), 0.8)
    assert len(set(wanted)) < len(texts)
    assert [groups.of(list(texts)) for groups in found] == [wanted] * 4
    assert sum(groups.counts.computed > 0 for groups in found) == 1
    assert len(store.list(ROOT)) == 2
    assert erase_rows(store, {"row-03"}) == 1
    assert not any(b"row-03" in store.get(key) for key in store.list(ROOT))
    del texts["row-03"]
    again = update(texts)
    assert again.counts.computed == 0
    assert again.of(list(texts)) == near_duplicate_groups(list(texts.values()), 0.8)
