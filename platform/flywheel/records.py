"""Row types: what moves between the stages, who produces it and who consumes it.

All are closed, frozen pydantic models; times are timezone-aware UTC. The Arrow schemas of the lake
tables (``lake/schemas.py``) mirror them field by field, and a test holds the two together.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Purpose = Literal["training", "evaluation", "third_party"]
Role = Literal["system", "user", "assistant", "tool"]
Api = Literal["chat", "completion"]
TrafficKind = Literal["live", "shadow", "canary", "import", "synthetic", "taught"]
TRAFFIC: Final = ("live", "canary", "import", "synthetic")
"""What users asked and were answered: nobody sees a shadow's answer, and nobody asked what a model was taught."""
FeedbackKind = Literal[
    "thumbs", "rating", "click", "copy", "dwell", "completion", "abandon",
    "reprompt", "correction", "comparison", "comment",
]  # fmt: skip
FeedbackSource = Literal["explicit", "implicit", "judge", "human", "system"]
LabelKind = Literal["accept", "correct", "reject", "rate", "compare"]
Split = Literal["tune", "audit", "gate"]
CheckKind = Literal[
    "exact", "normalised", "json", "contains", "regex", "numeric", "similarity", "reward", "judge", "code",
]  # fmt: skip
CaseOrigin = Literal["random", "failure", "golden", "regression", "safety", "import"]
CaseStatus = Literal["proposed", "active", "retired"]
ShadowErrorKind = Literal["timeout", "unavailable", "refused", "engine_error", "malformed", "too_large"]
AssignedHow = Literal["only", "random", "pinned", "fallback", "side_by_side"]
Verdict = Literal["promote", "reject", "continue", "inconclusive"]

SCHEMA_VERSION = 1
FEEDBACK_NAMESPACE = uuid.UUID("6f0b5a0e-6f43-5a3f-9a51-3f2f2c9d7a10")


class Record(BaseModel):
    """Base of every row type: closed (unknown fields are errors) and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def utcnow() -> datetime:
    """The current time, timezone-aware, UTC."""
    return datetime.now(UTC)


def in_utc(moment: datetime) -> datetime:
    """A moment in UTC, as the tables hold it.

    Raises:
        ValueError: it has no zone, or its zone takes it out of the years that can be read back.
    """
    if moment.tzinfo is None:
        raise ValueError("needs a time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must lie in the years 1 to 9999 in UTC") from error


def feedback_id(tenant: str, inference_id: str, idempotency_key: str) -> str:
    """Identity of a feedback event: a retry of the same event, at any replica, is the same row."""
    return str(uuid.uuid5(FEEDBACK_NAMESPACE, f"{tenant}\x1f{inference_id}\x1f{idempotency_key}"))


class FunctionCall(Record):
    """A function's name and its arguments as the model wrote them: JSON text, if it did well."""

    name: str
    arguments: str


class ToolCall(Record):
    """One call of a tool that a model asked for, in OpenAI's shape, so that a stored conversation can be sent again."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


def _empty(value: Any) -> bool:
    return not value


class Message(Record):
    """One turn of a conversation, in OpenAI's shape.

    What is empty besides role and content is left out of a dump: messages without tools look and hash as ever.
    """

    role: Role
    content: str = Field(description="empty for an assistant's turn that only calls tools")
    name: str | None = Field(default=None, exclude_if=_empty, description="who of several with one role speaks")
    tool_calls: list[ToolCall] = Field(
        default_factory=list[ToolCall], exclude_if=_empty, description="assistant: what it asked tools for"
    )
    tool_call_id: str | None = Field(default=None, exclude_if=_empty, description="tool: the call this answers")


class Fallback(Record):
    """The draw behind an answer that another model gave because the one that was drawn gave none."""

    assigned: str = Field(description="the version that was to answer")
    eligible: list[str] = Field(description="eligible_variants of that draw; one: the request had named the version")
    propensity: float = Field(ge=0, le=1, description="chance that the draw fell on `assigned`")
    reason: str = Field(description="a code: not_ready, engine_timeout, engine_unavailable, ...")


class Choosing(Record):
    """By what rule one of several answers, or the order of a list, was chosen. Chances are beside what they are of."""

    policy: str = Field(description="softmax, epsilon_greedy, uniform; given: the order that was sent, for certain")
    temperature: float = Field(description="of the softmax over scores; 0: the best score, ties split evenly")
    epsilon: float = Field(description="share of uniform choices")
    ranker: str = Field(description="what scored: none, given, likelihood, reward, engagement")
    ranker_version: str | None = None
    fallback: str | None = Field(default=None, description="why there were no scores to choose by, e.g. timeout")
    request_key_hash: str | None = Field(
        default=None, description="lists: equal for a request and its retries, which draw alike"
    )


class RankedCandidate(Record):
    """One item that a list was made of, shown or not. In the order in which the product sent them."""

    id: str = Field(description="the product's key of the item: no personal data")
    text: str | None = None
    features: dict[str, Any] = Field(default_factory=dict, description="numbers and short texts")
    score: float | None = None
    rank: int | None = Field(default=None, description="place in the shown list, 1 is the top; None: not shown")
    prefix_log_propensity: float | None = Field(
        default=None, description="log chance of the list from the top down to this item, under the policy"
    )
    position_propensity: float | None = Field(
        default=None, description="chance of this item at this place over all lists; None: not cheap to know"
    )


class ShadowScores(Record):
    """What a ranker that does not serve yet makes of a list: for the record, nobody sees it."""

    version: str
    scores: list[float] = Field(default_factory=list[float], description="one an item, as sent; empty: it gave none")
    error: str | None = Field(default=None, description="why there are none, e.g. timeout")


class Inference(Record):
    """One answered request. Produced by the gateway (or an import), consumed by every later stage.

    In the outbox and in ``landing/`` the text is raw; from ingestion on it holds surrogates, and
    ``subject`` is a keyed pseudonym.
    """

    inference_id: str = Field(description="UUIDv7 made by the gateway; its time fixes the partition date")
    flow: str
    tenant: str = "default"
    ts: datetime
    ingest_ts: datetime | None = None
    session_id: str | None = None
    parent_id: str | None = Field(default=None, description="the inference this one re-prompts or continues")
    subject: str = Field(description="keyed pseudonym of the user (raw user id before ingestion)")
    consent: list[Purpose] = Field(default_factory=list[Purpose], description="purposes stated with the request")
    traffic_kind: TrafficKind = "live"
    model_version: str
    policy_version: int = Field(default=0, description="number of the routing object in force")
    eligible_variants: list[str] = Field(default_factory=list)
    propensity: float = Field(default=1.0, ge=0, le=1, description="probability of the variant that was served")
    assignment_key_hash: str | None = Field(
        default=None,
        description="keyed name of the user, session or request that was assigned, while there are canaries",
    )
    assignment: AssignedHow | None = Field(
        default=None,
        description="only: one model could answer; random: drawn by the key; pinned: the request named a version; "
        "fallback: the drawn model failed, and eligible_variants and propensity are those of the model that stood in; "
        "side_by_side: two models answered for the user to choose",
    )
    fallback: Fallback | None = Field(default=None, description="what had been drawn, where assignment is fallback")
    messages: list[Message]
    params: dict[str, Any] = Field(default_factory=dict, description="sampling parameters as asked")
    choices: list[str] = Field(default_factory=list, description="all answers drawn")
    tool_calls: list[list[ToolCall]] = Field(
        default_factory=list[list[ToolCall]], description="by choice: the tools it calls; empty when none calls any"
    )
    api: Api = Field(
        default="chat", description="completion: the one message is a raw prompt, answered without a chat template"
    )
    choice_served: int = 0
    choice_versions: list[str] = Field(
        default_factory=list[str], description="by choice: who gave it, where not all are of model_version"
    )
    choice_scores: list[float] = Field(default_factory=list[float], description="best-of-n: the ranker's, one a choice")
    choice_propensity: float | None = Field(
        default=None, ge=0, le=1, description="best-of-n: chance of the served choice given the answers drawn"
    )
    ranking: list[RankedCandidate] = Field(
        default_factory=list[RankedCandidate], description="/v1/rank: the items; then there are no choices"
    )
    list_log_propensity: float | None = Field(
        default=None, le=0, description="/v1/rank: log chance of the whole shown list given the items"
    )
    choosing: Choosing | None = Field(default=None, description="the policy of either; None: nothing was chosen")
    shadow_scores: list[ShadowScores] = Field(
        default_factory=list[ShadowScores],
        description="/v1/rank: of rankers in the shadow; only with evaluation consent",
    )
    finish_reason: str | None = Field(
        default=None, description="stop, length, error, client_disconnect, or interrupted (the replica died)"
    )
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_ms: float | None = Field(default=None, description="time to first token, milliseconds")
    latency_ms: float | None = Field(default=None, description="milliseconds until the last token")
    config_hash: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def rated_choice(self, choice_index: int) -> int:
        """The place in ``choices`` that a feedback's ``choice_index`` means: it counts what the client got.

        Of best-of-n the client got one answer, whatever its place in the draw.
        """
        return self.choice_served if self.choosing is not None and choice_index == 0 else choice_index


class RankedItem(Record):
    """One item of a ranked list as it was shown."""

    id: str
    rank: int = Field(description="1 is the top, as /v1/rank said")
    shown_ms: float | None = None
    action: str | None = None


class Feedback(Record):
    """One reaction to one inference, or to a session. Produced by the gateway or an import, consumed by quality."""

    feedback_id: str
    inference_id: str = Field(
        description="empty in the tables where session_id is set; before ingestion then an answer of it, or empty"
    )
    session_id: str | None = Field(
        default=None, description="set: about that whole session, as inferences name it; no answer of it is meant"
    )
    flow: str
    tenant: str = "default"
    choice_index: int = 0
    ts: datetime
    ingest_ts: datetime | None = None
    subject: str
    kind: FeedbackKind
    value: float | None = Field(default=None, description="thumbs -1/+1, rating 1-5, dwell in milliseconds")
    text: str | None = Field(default=None, description="correction or comment")
    items: list[RankedItem] = Field(default_factory=list[RankedItem])
    source: FeedbackSource = "explicit"
    schema_version: int = SCHEMA_VERSION


class Consent(Record):
    """A subject's standing statement about one purpose. The latest one counts."""

    subject: str
    purpose: Purpose
    ts: datetime
    state: Literal["granted", "withdrawn"]
    policy_version: str = "1"
    expires_at: datetime | None = None


class Label(Record):
    """A reviewer's judgement of one inference. Produced by review, split once by subject."""

    label_id: str
    inference_id: str
    flow: str
    subject: str
    annotator: str
    ts: datetime
    kind: LabelKind = Field(
        description="accept: the answer is right; correct: `correction` is the right one; reject: it is wrong; "
        "rate: `value` 1-5; compare: `value` says which of two answers is better"
    )
    correction: str | None = None
    value: float | None = Field(
        default=None, description="rate: 1-5; compare: +1 the served answer is better, 0 tie, -1 `other_answer` is"
    )
    other_answer: str | None = Field(default=None, description="compare: the answer it was compared with")
    other_version: str | None = Field(default=None, description="compare: the model that gave the other answer")
    adjudicates: bool = Field(default=False, description="settles a disagreement of other annotators; it alone counts")
    seconds: float | None = None
    guideline_version: str = "1"
    split: Split
    origin: Literal["random", "curated"] = Field(
        default="random", description="random: drawn uniformly from traffic; curated: picked by a person or a queue"
    )


class Signal(Record):
    """One number about one training candidate, with the version of what computed it."""

    inference_id: str
    signal: str
    version: str
    value: float | None
    detail: str | None = None


class Example(Record):
    """One training example. Produced by curate, consumed by training."""

    example_id: str
    flow: str
    messages: list[Message]
    target: str
    chosen: str | None = None
    rejected: str | None = None
    weight: float = 1.0
    inference_ids: list[str]
    subject: str
    origin: Literal["correction", "liked", "taught"]


class Check(Record):
    """How an answer is marked right or wrong."""

    kind: CheckKind
    expected: str | dict[str, Any] | list[Any]
    fields: list[str] | None = Field(
        default=None, description="json: compare these fields, default all; numeric: the one to read"
    )
    tolerance: float | None = Field(default=None, description="numeric only: the largest allowed absolute difference")
    threshold: float | None = Field(default=None, description="similarity, reward, judge: the score that passes")


class EvalCase(Record):
    """One test of a model. Produced by review, failures or import; consumed by evaluation only."""

    case_id: str
    version: int = 1
    flow: str
    suite: str = Field(description="random, failures, old-intents, or a name of the user's own")
    messages: list[Message]
    check: Check
    origin: CaseOrigin
    inference_id: str | None = None
    session_id: str | None = None
    subject: str | None = None
    slice: str | None = Field(default=None, description="the group the case is reported under, e.g. an intent")
    slices: dict[str, str] = Field(default_factory=dict, description="further groups: language, length, tenant")
    cluster: str | None = Field(default=None, description="mined failures: the group of alike failures")
    priority: float | None = Field(default=None, description="mined failures: share of traffic that is like it")
    reviewer: str | None = None
    status: CaseStatus = Field(default="active", description="proposed: mined, and not yet approved by a person")
    settled: bool = Field(
        default=False, description="a person approved, edited or retired it: no turn writes over that"
    )


class EvalResult(Record):
    """One model's answer to one case. Per item, never only means."""

    run_id: str
    case_id: str
    case_version: int
    suite: str
    slice: str | None = None
    slices: dict[str, str] = Field(default_factory=dict)
    subject: str | None = None
    model_version: str
    answer: str
    passed: bool
    score: float
    detail: str | None = Field(default=None, description="why it did not pass")
    error: str | None = None
    latency_ms: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    drawn: str | None = Field(default=None, description="how answers were drawn; only equal ones can be compared")


SERVED, OTHER, CORRECTION = "served", "other", "correction"
"""Stand for versions in judgements that calibrate a judge against people: the answer shown, another, a correction."""
STAND_INS = frozenset({SERVED, OTHER, CORRECTION})


class Judgement(Record):
    """One judge's opinion about two answers to the same messages, asked in both orders. Produced by judging."""

    judgement_id: str
    flow: str
    ts: datetime
    judge: str = Field(description="version of the judge: its model, prompt and settings")
    item_id: str = Field(description="the inference or case that both answers belong to")
    subject: str | None = None
    left_version: str
    right_version: str
    verdict: Literal["left", "right", "tie", "abstain"] = Field(description="abstain: the two orders contradict")
    forward: Literal["left", "right", "tie", "invalid"] = Field(description="asked with left shown first")
    backward: Literal["left", "right", "tie", "invalid"] = Field(description="asked with right shown first")
    left_length: int = Field(description="characters")
    right_length: int = Field(description="characters")
    error: str | None = None


class ShadowPair(Record):
    """The live and a candidate's answer to the same live request."""

    inference_id: str
    flow: str
    ts: datetime
    subject: str
    candidate: str
    live_version: str
    live_answer: str
    candidate_answer: str | None
    candidate_tool_calls: list[ToolCall] = Field(
        default_factory=list[ToolCall], description="what it would have asked tools for; nobody ran them"
    )
    live_latency_ms: float | None = None
    candidate_latency_ms: float | None = None
    candidate_tokens: int | None = Field(default=None, description="of the answer")
    error: str | None = None
    error_kind: ShadowErrorKind | None = Field(default=None, description="None in rows made earlier, too")
    session_id: str | None = None
    policy_version: int | None = Field(default=None, description="number of the routing object in force")
    mirror_propensity: float | None = Field(default=None, description="chance that the request was mirrored at all")
    live_ttft_ms: float | None = Field(default=None, description="None where the live answer was not streamed")
    candidate_ttft_ms: float | None = None
    queue_ms: float | None = Field(default=None, description="wait before it was sent; in no latency")
    live_prompt_tokens: int | None = None
    live_tokens: int | None = Field(default=None, description="of the answer")
    candidate_prompt_tokens: int | None = None
    live_finish_reason: str | None = None
    candidate_finish_reason: str | None = None
    live_tool_calls: list[ToolCall] = Field(default_factory=list[ToolCall])
    tags: dict[str, str] = Field(default_factory=dict)


class Reason(Record):
    """One condition of the gate: its name, whether it held, and the numbers."""

    name: str
    passed: bool | None = Field(description="None: could not be measured, which never promotes")
    outcome: Literal["pass", "fail", "wait", "missing"] | None = Field(
        default=None, description="the same, with what may still come told apart; None in rows made earlier"
    )
    measured: float | None = None
    interval: tuple[float, float] | None = None
    threshold: float | None = None
    text: str


class Decision(Record):
    """The gate's verdict about one candidate, a change of routing, or a filter that was adopted. Append-only."""

    decision_id: str
    flow: str
    ts: datetime
    turn_id: str | None = None
    action: Literal[
        "gate",
        "promote",
        "shadow",
        "unshadow",
        "rollback",
        "bootstrap",
        "approve",
        "canary",
        "uncanary",
        "adopt_filter",
        "rollout",
        "pause",
        "resume",
        "ranker_gate",
        "ranker_shadow",
        "ranker_unshadow",
        "ranker_promote",
        "ranker_rollback",
    ]
    verdict: Verdict | None = None
    candidate: str | None
    live: str | None
    routing_n: int | None = None
    actor: str = "flywheel"
    reasons: list[Reason] = Field(default_factory=list[Reason])
    evidence: list[str] = Field(
        default_factory=list[str], description="gate, approve: the evaluation runs it rests on, and the set of cases"
    )
    text: str = ""
