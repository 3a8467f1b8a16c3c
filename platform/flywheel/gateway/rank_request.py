"""What a ranking request asks for, read from its body. Pure: no I/O, nothing recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticSerializationError

from flywheel.config import RankingConfig
from flywheel.gateway.asked import MAX_ID, Asked, read_chat
from flywheel.gateway.problems import bad_request
from flywheel.gateway.protocol.messages import MAX_MESSAGES, RequestMessage
from flywheel.statistics.policies import LARGEST

MAX_ITEM_TEXT = 20_000
MAX_FEATURES = 64
ItemId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:/-]{1,128}$")]
"""A key, not a text: it is stored as it is, also without consent."""
Number = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
Feature = bool | Number | Annotated[str, Field(max_length=MAX_ID)]


class Sent(BaseModel):
    """Base of the bodies below: closed, so that a typo is an error and not a lost value."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ItemSent(Sent):
    """One item to rank."""

    id: ItemId
    text: str | None = Field(default=None, max_length=MAX_ITEM_TEXT)
    features: dict[Annotated[str, Field(max_length=64)], Feature] = Field(default_factory=dict, max_length=MAX_FEATURES)
    score: Number | None = Field(default=None, description="the product's own, for the ranker 'given'")


class PolicySent(Sent):
    """What differs from the configured policy."""

    name: Literal["softmax", "epsilon_greedy", "uniform"] | None = None
    temperature: float | None = Field(default=None, ge=1e-6, allow_inf_nan=False)
    epsilon: float | None = Field(default=None, ge=0, le=1)


class RankSent(Sent):
    """Body of ``POST /v1/rank``."""

    items: list[ItemSent] = Field(min_length=1)
    messages: list[RequestMessage] | None = Field(
        default=None, max_length=MAX_MESSAGES, description="the conversation so far, as in a chat request"
    )
    query: str | None = Field(default=None, max_length=MAX_ITEM_TEXT, description="short for one message of the user")
    user: str | None = Field(default=None, max_length=MAX_ID)
    model: str | None = None
    k: int | None = Field(default=None, ge=1, description="places of the list; default: all items")
    policy: PolicySent | None = None
    ranker_version: str | None = Field(default=None, max_length=MAX_ID, description="of the items' own scores")
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=MAX_ID)

    @model_validator(mode="after")
    def _is_clear(self) -> RankSent:
        if self.messages is not None and self.query is not None:
            raise ValueError("give 'messages' or 'query', not both")
        if len({item.id for item in self.items}) < len(self.items):
            raise ValueError("two items have one id")
        return self


@dataclass(frozen=True)
class RankAsked:
    """One validated ranking request: who asks in which context, like a chat, and what is to be ranked how."""

    asked: Asked
    items: list[ItemSent]
    places: int
    settings: RankingConfig
    ranker_version: str | None
    idempotency_key: str | None


def read_rank(body: dict[str, Any], headers: Mapping[str, str], *, tenant: str, settings: RankingConfig) -> RankAsked:
    """Validate a ranking request.

    Raises:
        ApiProblem: 400, naming the field.
    """
    try:
        sent = RankSent.model_validate(body)
        sent.model_dump_json()  # half a surrogate pair passes validation but no store
    except ValidationError as error:
        raise bad_request(_explain(error)) from error
    except PydanticSerializationError as error:
        raise bad_request("the body is not valid Unicode") from error
    if len(sent.items) > settings.max_items:
        raise bad_request(f"'items': at most {settings.max_items} (gateway.ranking.max_items), not {len(sent.items)}")
    return RankAsked(
        asked=_asked(sent, headers, tenant),
        items=sent.items,
        places=min(sent.k or len(sent.items), len(sent.items)),
        settings=_settings(settings, sent.policy),
        ranker_version=sent.ranker_version,
        idempotency_key=sent.idempotency_key,
    )


def _asked(sent: RankSent, headers: Mapping[str, str], tenant: str) -> Asked:
    """Headers, user and messages are read as of a chat; without a context there is no message."""
    messages = [{"role": "user", "content": sent.query}] if sent.query is not None else sent.messages
    chat = {"messages": messages or [{"role": "user", "content": ""}], "user": sent.user, "model": sent.model}
    chat = {key: value for key, value in chat.items() if value is not None}
    asked = read_chat(chat, headers, tenant=tenant, default_max_tokens=1)
    return replace(asked, params={"k": sent.k} if sent.k else {}, messages=asked.messages if messages else [])


def _settings(settings: RankingConfig, asked: PolicySent | None) -> RankingConfig:
    if asked is None:
        return settings
    update = asked.model_dump(exclude_none=True)
    return settings.model_copy(update={"policy" if key == "name" else key: value for key, value in update.items()})


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"'{place}': {first['msg']}" if place else str(first["msg"])
