"""Failures become cases: clustered, without near-duplicates, the most frequent kind first."""

from flywheel.config import MiningConfig
from flywheel.evaluation.cases import failures_suite, store_cases, stored_cases
from flywheel.evaluation.failing import signs_of_failure
from flywheel.evaluation.lifecycle import approved, retired_by
from flywheel.evaluation.mining import UNWRITTEN, mine
from flywheel.records import Check

PARCEL = ["where is my parcel", "my parcel did not come, where is it", "why has my parcel not arrived, where is it"]
CARD = ["please activate my card", "how can I activate the card I got"]


def run(rows, feedback, *, stored=(), traffic=(), policy=None):
    signs = signs_of_failure(rows, feedback)
    by_id = {row.inference_id: row for row in rows}
    corrected = failures_suite(feedback, by_id, evaluation_side=set(by_id))
    policy = policy or MiningConfig()
    failed = [by_id[key] for key in signs]
    return mine(failed, signs, corrected=corrected, stored=stored, traffic=list(traffic), policy=policy)


def failures(asked, said, texts):
    rows = [asked(n, text) for n, text in enumerate(texts)]
    return rows, [said(n, value=-1) for n in range(len(rows))]


def test_clusters_come_by_their_share_of_the_traffic(asked, said):
    rows, feedback = failures(asked, said, PARCEL + CARD)
    traffic = ["activate my card please", "activate the card", "where is my parcel", "good evening to you"]
    mined = run(rows, feedback, traffic=traffic)
    assert [(cluster.cases, cluster.priority) for cluster in mined.clusters] == [(2, 0.5), (3, 0.25)]
    assert "card" in mined.clusters[0].name
    assert [case.priority for case in mined.cases] == [0.5, 0.5, 0.25, 0.25, 0.25]
    case = mined.cases[0]
    assert (case.status, case.check, case.suite, case.origin, case.cluster) == (
        "proposed", UNWRITTEN, "failures", "failure", mined.clusters[0].name,
    )  # fmt: skip
    assert case.session_id == f"session {case.inference_id[1:]}"
    assert case.slices == {"language": "en", "length": "short", "tenant": "default"}


def test_a_corrected_failure_is_active_with_its_check_and_stays_beside_a_near_duplicate(asked, said):
    rows = [asked(n, PARCEL[0]) for n in range(3)]
    mined = run(rows, [said(0, value=-1), said(1, "correction", None, "Friday"), said(2, "correction", None, "Monday")])
    assert {(case.inference_id, case.status, case.check.expected) for case in mined.cases} == {
        ("i1", "active", "Friday"), ("i2", "active", "Monday"),
    }  # fmt: skip
    assert mined.dropped == {"near_duplicate": 1}


def test_of_near_duplicates_the_clearest_sign_and_then_the_newest_stays(asked, said):
    rows = [asked(n, PARCEL[1]) for n in range(4)]
    hints = [said(0, "abandon"), said(1, value=-1), said(2, value=-1), said(3, "reprompt")]
    mined = run(rows, hints)
    assert [case.inference_id for case in mined.cases] == ["i2"]
    assert mined.dropped == {"near_duplicate": 3}


def test_nothing_near_to_a_stored_case_of_any_suite_and_status_is_proposed(asked, said, make_case):
    rows, feedback = failures(asked, said, PARCEL + CARD)
    stored = [
        make_case(1, "golden", messages=rows[0].messages),
        make_case(2, "mine", messages=rows[3].messages, status="retired"),
    ]
    mined = run(rows, feedback, stored=stored)
    assert {case.inference_id for case in mined.cases} == {"i1", "i2", "i4"}


def test_limits_hold_for_new_and_old_proposals_together_and_what_is_left_out_is_counted(asked, said):
    rows, feedback = failures(asked, said, PARCEL + CARD)
    one = run(rows, feedback, policy=MiningConfig(per_cluster=1))
    assert (len(one.cases), one.dropped) == (2, {"over_limit": 3})
    two = run(rows, feedback, stored=one.cases, policy=MiningConfig(per_cluster=5, max_proposed=3))
    assert (len(two.cases), two.dropped) == (3, {"over_limit": 2})
    assert {case.case_id for case in one.cases} < {case.case_id for case in two.cases}


def test_mining_again_changes_nothing_and_leaves_alone_what_a_person_settled(asked, said, lake):
    rows, feedback = failures(asked, said, PARCEL + CARD)
    rows.append(asked(9, ""))
    feedback.append(said(9, value=-1))
    first = run(rows, feedback, traffic=CARD)
    assert first.dropped == {"no_question": 1}
    assert store_cases(lake, "triage", first.cases) == 5
    again = run(rows, feedback, stored=stored_cases(lake, "triage"), traffic=CARD)
    assert store_cases(lake, "triage", again.cases) == 0
    before = stored_cases(lake, "triage")
    accepted = before[0].model_copy(update={"check": Check(kind="contains", expected="card")})
    store_cases(lake, "triage", [approved(accepted, reviewer="ann"), retired_by(before[1], reviewer="ann")])
    third = run(rows, feedback, stored=stored_cases(lake, "triage"), traffic=PARCEL)
    assert third.dropped == {"no_question": 1, "settled": 2}
    store_cases(lake, "triage", third.cases)
    after = {case.case_id: case for case in stored_cases(lake, "triage")}
    assert (after[before[0].case_id].status, after[before[1].case_id].status) == ("active", "retired")
    assert sum(case.version > 1 and not case.settled for case in after.values()) == 3, "new priorities of proposals"
