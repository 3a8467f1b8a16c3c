"""Privatise: raw rows -> rows that may lie in the tables. Used by ingestion and by the importer.

Users and sessions become keyed pseudonyms and personal data in texts becomes surrogates, consistent
within a conversation (the session, else the inference). A row that nobody may use for any purpose
keeps its numbers and loses its text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, get_args

from flywheel.capture.anonymise import Anonymiser
from flywheel.capture.consent import allowed
from flywheel.capture.statements import Statements
from flywheel.config import PrivacyConfig
from flywheel.lake.keys import Keyring
from flywheel.records import Consent, Feedback, Inference, Purpose, ShadowPair, utcnow

PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
TEXT_REMOVED: Final = "text_removed"
"""Tag of an inference without text; its value is the reason."""
NO_CONSENT: Final = "no_consent"
_TEXT_FIELDS: Final = frozenset(
    {
        "messages", "choices", "ranking", "tool_calls", "text", "live_answer", "candidate_answer",
        "candidate_tool_calls", "live_tool_calls", "params", "tags", "error",
    }
)  # fmt: skip
_PERSON_FIELDS: Final = frozenset({"subject", "session_id", "user"})


class Link(NamedTuple):
    """What a reaction needs to know of its inference, all of it as stored in the tables."""

    subject: str
    conversation: str
    has_text: bool
    tenant: str = "default"


class Privatiser:
    """Applies one keyring, one privacy policy and the consents that are in force."""

    def __init__(self, keyring: Keyring, privacy: PrivacyConfig, statements: Statements) -> None:
        self._keyring, self._statements = keyring, statements
        self._anonymiser = Anonymiser(keyring.surrogate_key(), privacy)

    def consent(self, row: Consent, tenant: str) -> Consent:
        """A statement under the subject's pseudonym."""
        return row.model_copy(update={"subject": self._keyring.pseudonym(tenant, row.subject)})

    def inference(self, row: Inference, now: datetime | None = None) -> Inference:
        """An inference as it may be stored; without consent its texts are empty and a tag says so."""
        now = now or utcnow()
        named = row.model_copy(
            update={
                "subject": self._keyring.pseudonym(row.tenant, row.subject),
                "session_id": self.session(row.tenant, row.session_id) if row.session_id else None,
                "ingest_ts": now,
            }
        )
        return self._anonymiser.inference(named if self._usable(named, now) else _without_text(named))

    def feedback(self, row: Feedback, link: Link) -> Feedback:
        """A reaction; where it names no user it is the inference's."""
        subject = self._keyring.pseudonym(row.tenant, row.subject) if row.subject else link.subject
        about = {} if row.session_id is None else {"inference_id": "", "session_id": link.conversation}
        named = row.model_copy(update={"subject": subject, "ingest_ts": utcnow(), **about})
        stored = named if link.has_text else named.model_copy(update={"text": None})
        return self._anonymiser.feedback(stored, link.conversation)

    def session(self, tenant: str, session_id: str) -> str:
        """Products put user names and addresses into session ids: a pseudonym too, in a name space of its own."""
        return self._keyring.pseudonym(tenant, f"session\x1f{session_id}")

    def shadow_pair(self, row: ShadowPair, link: Link) -> ShadowPair:
        """A comparison, under the conversation key of its inference so that both answers match its text."""
        session = link.conversation if row.session_id else None  # the pseudonym that the inference has
        named = row.model_copy(update={"subject": link.subject, "session_id": session})
        if link.has_text:
            return self._anonymiser.shadow_pair(named, link.conversation)
        nothing = {
            "candidate_answer": None,
            "candidate_tool_calls": [],
            "live_tool_calls": [],
            "error": None,
            "tags": {},
        }
        return named.model_copy(update={"live_answer": "", **nothing})

    def refused(self, body: str, tenant: str, conversation: str) -> str:
        """The body of a row that does not validate, as it may be kept: JSON without its personal data.

        Texts stay only if the row itself states a consent. What is no JSON object is not kept.
        """
        try:
            data = json.loads(body)
        except ValueError:
            return ""
        if not isinstance(data, dict):
            return ""
        if not data.get("consent"):
            data = {key: value for key, value in data.items() if key not in _TEXT_FIELDS}
        return json.dumps(self._scrubbed(data, tenant, conversation), ensure_ascii=False)

    def _usable(self, row: Inference, now: datetime) -> bool:
        return any(
            allowed(
                purpose,
                row_ts=row.ts,
                row_consent=row.consent,
                statement=self._statements.latest(row.subject, purpose),
                now=now,
            )
            for purpose in PURPOSES
        )

    def _scrubbed(self, value: Any, tenant: str, conversation: str) -> Any:
        if isinstance(value, str):
            return self._anonymiser.text(value, conversation)
        if isinstance(value, list):
            return [self._scrubbed(item, tenant, conversation) for item in value]
        if isinstance(value, dict):
            return {
                key: self._keyring.pseudonym(tenant, str(item))
                if key in _PERSON_FIELDS and item
                else self._scrubbed(item, tenant, conversation)
                for key, item in value.items()
            }
        return value


def link_of(row: Inference) -> Link:
    """The link of a stored (privatised) inference."""
    return Link(row.subject, row.session_id or row.inference_id, TEXT_REMOVED not in row.tags, row.tenant)


def _without_text(row: Inference) -> Inference:
    ranking = [item.model_copy(update={"text": None, "features": _numbers(item.features)}) for item in row.ranking]
    update = {
        "messages": [], "choices": [], "tool_calls": [], "ranking": ranking, "params": _numbers(row.params),
        "tags": {TEXT_REMOVED: NO_CONSENT},  # those of the request are the client's own words
    }  # fmt: skip
    return row.model_copy(update=update)


def _numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if isinstance(value, int | float | bool)}
