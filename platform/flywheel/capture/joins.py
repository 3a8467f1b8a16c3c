"""Joins: what a reaction is about, and whether it may be said by whoever said it.

An answer is found by its id, whose time names the partition. A session carries no time: it is found through an answer
of it that the reaction names (the one whose token was shown), else among the answers of the reaction's day and the day
before, so that no batch ever reads more than two partitions for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from flywheel.capture.known import Known, days_of_session
from flywheel.capture.privatise import Link, Privatiser
from flywheel.records import Feedback, ShadowPair

UNKNOWN_INFERENCE: Final = "unknown_inference"
UNKNOWN_SESSION: Final = "unknown_session"
OTHER_TENANT: Final = "other_tenant"
OTHER_SESSION: Final = "other_session"
Reaction = Feedback | ShadowPair


class Joined(NamedTuple):
    """The answer that a reaction belongs to; of a session any one that is known."""

    answer: str
    link: Link


class Joins:
    """What the reactions of one batch are about.

    Args:
        known: what the tables hold.
        privatiser: turns sessions into their pseudonyms.
        links: the inferences of this very batch.
        reactions: all that will be asked for.
    """

    def __init__(
        self, known: Known, privatiser: Privatiser, links: dict[str, Link], reactions: Iterable[Reaction]
    ) -> None:
        self._privatiser = privatiser
        asked = list(reactions)
        named = {reaction.inference_id for reaction in asked if reaction.inference_id}
        self._links = links | known.links(named - links.keys())
        self._sessions = self._found_sessions(known, links, asked)

    def of(self, reaction: Reaction) -> Joined | tuple[str, str] | None:
        """Its answer; or the reason and detail of its refusal; None: nothing is known of it yet."""
        joined = self._joined(reaction)
        if joined is None or isinstance(reaction, ShadowPair):
            return joined
        if joined.link.tenant != reaction.tenant:
            return OTHER_TENANT, "inference_id: is an answer to another tenant"
        if reaction.session_id is not None and joined.link.conversation != self._session(reaction):
            return OTHER_SESSION, "inference_id: is no answer of that session"
        return joined

    def missing(self, reaction: Reaction, patience: timedelta) -> tuple[str, str]:
        """Reason and detail for one that waited long enough."""
        if reaction.inference_id:
            return UNKNOWN_INFERENCE, f"inference_id: did not arrive within {patience}"
        return UNKNOWN_SESSION, f"session_id: no answer of it from that day or the day before arrived within {patience}"

    def _joined(self, reaction: Reaction) -> Joined | None:
        if reaction.inference_id:
            link = self._links.get(reaction.inference_id)
            return None if link is None else Joined(reaction.inference_id, link)
        return self._sessions.get(self._session(reaction))

    def _session(self, reaction: Reaction) -> str:
        assert isinstance(reaction, Feedback)
        assert reaction.session_id is not None, "intake lets no reaction in that names nothing"
        return self._privatiser.session(reaction.tenant, reaction.session_id)

    def _found_sessions(self, known: Known, links: dict[str, Link], asked: Sequence[Reaction]) -> dict[str, Joined]:
        wanted: dict[str, set[str]] = {}
        for reaction in asked:
            if not reaction.inference_id:
                for date in days_of_session(reaction.ts):
                    wanted.setdefault(date, set()).add(self._session(reaction))
        found = {session: Joined(*answer) for session, answer in known.sessions(wanted).items()}
        here = {link.conversation: Joined(key, link) for key, link in links.items() if link.conversation != key}
        return {**found, **here}
