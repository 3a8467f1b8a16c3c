"""Reports of the gate for tests: an ordinary one, one that shows shared data, and one full of hostile text."""

from datetime import UTC, datetime

from flywheel.config import GatePolicy, GuardPolicy
from flywheel.records import Reason
from flywheel.rollout.gate import Change, GateInput, Lineage, SuiteEvidence, decide
from flywheel.rollout.shadow import ShadowSummary
from flywheel.workflow.turns.report import words
from flywheel.workflow.turns.report.model import Ancestor, Changed, GateReport, Overlap, SliceRow, SuiteRow

MAKERS = ("filter", "sweep", "reward", "training")
NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
HOSTILE = (
    "<script>document.title='owned';fetch('http://127.0.0.1:9/x')</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "'><svg onload=alert(1)><style>*{display:none}</style>",
    "</pre></article></main><iframe src=javascript:alert(1)>",
    "</title></style><script>alert(2)</script>",
    "{{ 7*7 }} {% raw %} ${7*7} <!-- -->",
    "\u202egnp.exe\u2066 hidden \u200b\u2069",
    "nul\x00 escape\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07link\x1b]8;;\x07 bell\x07 \x85 \x9b31m",
    "lone \ud800 surrogate",
    "]]>&amp;&lt;&#60;",
    "W" * 50_000,
    "word " * 20_000,
)


def suite(name, n, live, candidate, spread, **more):
    gain = candidate - live
    return SuiteEvidence(
        suite=name, n=n, before=live, after=candidate, gain=gain, low=gain - spread, high=gain + spread, **more
    )


def judged(*, primary=None, guards=None, policy=None, **changes):
    """A decided input, with the words and numbers that the gate itself gives."""
    shadow = ShadowSummary(
        candidate="triage-v0003", n=420, answered=419, errors=1, error_rate=1 / 420, agreement=0.81,
        live_latency_ms=180.0, candidate_latency_ms=205.0, latency_ratio=1.139,
    )  # fmt: skip
    given = GateInput(**{
        "candidate": "triage-v0003", "live": "triage-v0002",
        "primary": primary or suite("random", 817, 0.524, 0.681, 0.022),
        "guards": guards if guards is not None else {
            "old-intents": suite("old-intents", 2400, 0.912, 0.911, 0.009),
            "safety": suite("safety", 120, 0.975, 0.983, 0.008),
        },
        "required_guards": ["old-intents"], "shadow": shadow, "leaks": 0, "contamination": 0, "erased": [],
        "behaviour": {
            "tokens": Change(n=817, before=52, after=58, value=1.115, low=1.09, high=1.14),
            "length": Change(n=817, before=61, after=66, value=1.08, low=1.05, high=1.11),
            "refusals": Change(n=817, before=0.01, after=0.012, value=0.002, low=-0.004, high=0.008),
        },
        "lineage": Lineage(judged_by=frozenset({"label-1"}), used={name: frozenset() for name in MAKERS}),
        **changes,
    })  # fmt: skip
    policy = policy or GatePolicy(
        guards={"safety": GuardPolicy(max_loss=0.01, min_cases=100)}, max_token_ratio=1.25, max_length_ratio=1.5,
        max_refusal_increase=0.02,
    )  # fmt: skip
    return given, decide(given, policy)


def changed(number, *, broken, suite="random", **more):
    right, wrong = (
        '{"intent":"refund","product":"router","urgency":"high"}',
        '{"intent":"greeting","product":"none","urgency":"low"}',
    )
    return Changed(**{
        "case_id": f"case-{number:012d}", "suite": suite, "group": "refund",
        "prompt": "hello, the router you sent two weeks ago never worked, I want my money back today please",
        "expected": right, "live": right if broken else wrong, "candidate": wrong if broken else right,
        "detail": "intent: expected refund, got greeting", **more,
    })  # fmt: skip


def ancestor(ref, *parents, note=""):
    return Ancestor(ref=ref, parents=list(parents), created=NOW, note=note)


def make(given, result, **more):
    rows = []
    limits = {reason.name: reason.threshold for reason in result.reasons}
    for role, evidence in [("decides", given.primary), *(("guards", one) for one in given.guards.values())]:
        if evidence is not None:
            name = "primary_gain" if role == "decides" else f"guard:{evidence.suite}"
            rows.append(SuiteRow(
                suite=evidence.suite, role=role, n=evidence.n, live=evidence.before, candidate=evidence.after,
                difference=evidence.gain, interval=(evidence.low, evidence.high), threshold=limits.get(name),
                fixed=round(evidence.n * max(0.02, evidence.gain + 0.02)), newly_broken=round(evidence.n * 0.02),
            ))  # fmt: skip
    rows.append(SuiteRow(
        suite="failures", role="reported", n=96, live=0.0, candidate=0.302, difference=0.302, interval=(0.21, 0.39),
        fixed=29, newly_broken=0,
    ))  # fmt: skip
    groups = ["refund", "delivery", "password", "invoice", "greeting", "cancel", "warranty", "upgrade"]
    values = {
        "flow": "triage", "turn_id": "turn-0007", "candidate": given.candidate, "live": given.live,
        "verdict": result.verdict, "headline": words.HEADLINES[result.verdict],
        "sentence": words.sentence(result.verdict, given.candidate, result.reasons, rows), "text": result.text,
        "conditions": result.reasons, "suites": rows, "confidence": 0.95,
        "slices": [
            SliceRow(suite="random", name=name, n=140 - 13 * i, live=0.4 + 0.05 * i, candidate=min(1, 0.37 + 0.09 * i))
            for i, name in enumerate(groups)
        ],
        "regressions": [changed(n, broken=True) for n in range(3)], "regressions_total": 64,
        "fixes": [changed(n, broken=False) for n in range(3, 5)], "fixes_total": 144,
        "funnel": {"captured": 5210, "consented": 4688, "unique": 3120, "kept": 1450},
        "dropped": {"no_feedback": 1204, "held_out": 801, "near_duplicate": 420, "others_disagree": 96},
        "overlap": [], "judged_by": 1634,
        "made_by": {"training": 1450, "reward": 2210, "sweep": 64, "filter": 64},
        "ancestors": [
            ancestor("model/triage-v0003", "dataset/dataset-4f1c2a90be11", "model/triage-v0002", note="turn-0007"),
            ancestor(
                "dataset/dataset-4f1c2a90be11", "reward/reward-77aa01c2d3e4", "filter/filter-0badc0ffee00",
                note="1,450 examples, filter sweep-8d2f",
            ),
            ancestor("model/triage-v0002"),
        ],
        "evidence": ["eval-1a2b3c4d5e6f", "eval-6f5e4d3c2b1a", "cases-0011223344aa"], "approved_by": None,
        "started": NOW, "decided": NOW, "code_version": "0.1.0", "config_hash": "9f86d081884c7d65", "seed": 0,
        "interval": "bootstrap", **more,
    }  # fmt: skip
    return GateReport(**values)


def promoted():
    return make(*judged())


def rejected():
    guards = {
        "old-intents": suite("old-intents", 2400, 0.912, 0.880, 0.011),
        "safety": suite("safety", 120, 0.975, 0.983, 0.008),
    }
    return make(*judged(guards=guards))


def shared():
    """Labels that judge were used by a sweep."""
    ids = [f"label-{n:012x}" for n in range(7)]
    sources = {"sweep": ["filter/filter-0badc0ffee00"]}
    lineage = Lineage(
        judged_by=frozenset(ids),
        used={name: frozenset(ids if name == "sweep" else []) for name in MAKERS},
        sources=sources,
    )
    return make(*judged(lineage=lineage), overlap=[Overlap(maker="sweep", ids=ids, sources=sources["sweep"])])


def waiting():
    primary = suite("random", 412, 0.524, 0.561, 0.031)
    return make(*judged(primary=primary, guards={"old-intents": None}))


def hostile():
    """Every text that a stranger can write, in every place of the page."""
    texts = [*HOSTILE, *HOSTILE[:4]]
    given, result = judged()
    evil = HOSTILE[0] + HOSTILE[1] + HOSTILE[6]
    suites = [
        SuiteRow(
            suite=text, role="decides" if n == 0 else "reported", n=10, live=0.5, candidate=0.6, difference=0.1,
            interval=(0.0, 0.2), threshold=0.0, fixed=1, newly_broken=1,
        )
        for n, text in enumerate(HOSTILE)
    ]  # fmt: skip
    cases = [
        changed(n, broken=True, suite=text, prompt=text, expected=text, live=text, candidate=text, group=text,
                detail=text, case_id=text, candidate_error=text)
        for n, text in enumerate(HOSTILE)
    ]  # fmt: skip
    return make(
        given, result, candidate=evil, live=evil, flow=evil, turn_id=evil, sentence=evil, text=evil, suites=suites,
        conditions=[Reason(name=f"guard:{text}", passed=False, outcome="fail", text=text) for text in texts],
        slices=[SliceRow(suite=suites[0].suite, name=text, n=3, live=0.1, candidate=0.9) for text in HOSTILE],
        regressions=cases, fixes=cases[:4], dropped=dict.fromkeys(HOSTILE, 3),
        funnel={"captured": 3, **dict.fromkeys(HOSTILE[:3], 1)},
        overlap=[Overlap(maker=evil, ids=list(HOSTILE), sources=list(HOSTILE))],
        ancestors=[Ancestor(ref=text, parents=[text], created=NOW, note=text) for text in HOSTILE],
        evidence=list(HOSTILE), approved_by=evil, code_version=evil, config_hash=evil,
    )  # fmt: skip
