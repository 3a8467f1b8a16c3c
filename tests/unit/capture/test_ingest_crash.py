"""Death at every single step between the outbox and the tables, before and after its effect; then a rerun."""

import random
from collections import Counter

import pytest

from flywheel.capture.ingest import Ingester, read_totals
from flywheel.capture.ship import ship_once
from flywheel.lake.store import ObjectStore
from flywheel.lake.tables import Lake

pytestmark = pytest.mark.slow


class Death(BaseException):
    """Not an ``Exception``: nothing may catch it, as nothing catches SIGKILL."""


class Fate:
    """Counts the steps that change something and dies at one of them."""

    def __init__(self):
        self.countdown, self.after = -1, False
        self.log = []

    def set(self, step, after):
        self.countdown, self.after = step, after

    def step(self, name, effect):
        self.countdown -= 1
        dies = self.countdown == 0
        self.log.append(name)
        if dies and not self.after:
            raise Death(name)
        outcome = effect()
        if dies:
            raise Death(name)
        return outcome


def mortal(lake, fate):
    """The same lake, every change of which is a step."""

    class Store(ObjectStore):
        def put_if_absent(self, key, data):
            return fate.step(key, lambda: ObjectStore.put_if_absent(self, key, data))

        def delete(self, keys):
            return fate.step("delete", lambda: ObjectStore.delete(self, keys))

    class MortalLake(Lake):
        def append(self, table, rows, **how):
            return fate.step(table, lambda: Lake.append(self, table, rows, **how))

    made = MortalLake(lake.uri)
    made.store = Store(lake.uri)
    return made


def events(make, number=2):
    """Rows of every kind; the last reaction belongs to an inference of the next call."""
    rows = [make.inference() for _ in range(number)]
    late = make.inference()
    reactions = [make.feedback(row) for row in rows]
    first = [*rows, reactions[0], make.feedback(late), make.consent(), make.pair(rows[0])]
    return [first, [late, *reactions, make.pair(late)]]  # reactions[0] comes twice


def check(pipeline, batches):
    wanted = {"inferences": set(), "feedback": set(), "shadow_pairs": set()}
    for row in (row for batch in batches for row in batch):
        name = type(row).__name__
        if name == "Inference":
            wanted["inferences"].add(row.inference_id)
        elif name == "Feedback":
            wanted["feedback"].add(row.feedback_id)
        elif name == "ShadowPair":
            wanted["shadow_pairs"].add(row.inference_id)
    columns = {"inferences": "inference_id", "feedback": "feedback_id", "shadow_pairs": "inference_id"}
    for table, ids in wanted.items():
        assert Counter(pipeline.ids(table, columns[table])) == Counter(ids), table
    assert len(pipeline.ids("consents", "subject")) == sum(
        type(row).__name__ == "Consent" for b in batches for row in b
    )


def test_death_at_every_step_then_a_rerun(new_pipeline, make):
    seen, step = set(), 0
    while True:
        step += 1
        reached = False
        for after in (False, True):
            pipeline = new_pipeline(f"home-{step}-{after}")
            batches = events(make)
            fate = Fate()
            lake = mortal(pipeline.lake, fate)
            fate.set(step, after)
            for rows in batches:
                pipeline.record(*rows)
                try:
                    ship_once(pipeline.folder, lake.store, pipeline.config.capture, pipeline.keyring)
                    Ingester(lake, pipeline.config, pipeline.keyring).run_once()
                except Death as death:
                    reached = True
                    seen.add(str(death).split("/")[0])
            pipeline.ship()
            pipeline.ingest()
            check(pipeline, batches)
            totals = read_totals(pipeline.lake, "triage")
            assert totals.events == sum(map(len, batches))
        if not reached:
            break
    assert seen == {"landing", "batches", "consents", "inferences", "feedback", "shadow_pairs"}
    assert step > 12


@pytest.mark.parametrize("seed", range(6))
def test_random_lives_of_two_ingesters(new_pipeline, make, seed):
    """Recording, shipping and two ingesters in any order, each dying now and then."""
    chance = random.Random(seed)
    pipeline = new_pipeline(segment_rows=3, batch_segments=2)
    fates = [Fate() for _ in range(2)]
    lakes = [mortal(pipeline.lake, fate) for fate in fates]
    ingesters = [Ingester(lake, pipeline.config, pipeline.keyring) for lake in lakes]
    recorded = []
    for _ in range(25):
        who = chance.randrange(2)
        fates[who].set(chance.choice([-1, 1, 2, 3, 4, 5, 6]), chance.random() < 0.5)
        action = chance.choice(["record", "ship", "ingest", "ingest"])
        try:
            if action == "record":
                parts = events(make)
                chance.shuffle(parts)
                pipeline.record(*parts[0])
                pipeline.record(*parts[1])
                recorded += parts
            elif action == "ship":
                ship_once(pipeline.folder, lakes[who].store, pipeline.config.capture, pipeline.keyring)
            else:
                ingesters[who].run_once()
        except Death:
            ingesters[who] = Ingester(lakes[who], pipeline.config, pipeline.keyring)
    pipeline.ship()
    report = pipeline.ingest()
    assert report.waiting == 0
    check(pipeline, recorded)
    assert read_totals(pipeline.lake, "triage").events == sum(map(len, recorded))
