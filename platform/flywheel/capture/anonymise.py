"""Replaces personal data by surrogates in every text of a row, before the row enters a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flywheel.capture.json_text import clean_json
from flywheel.config import PrivacyConfig
from flywheel.records import Feedback, FunctionCall, Inference, Message, RankedCandidate, ShadowPair, ToolCall
from flywheel.text.names import load_names
from flywheel.text.personal_data import detect
from flywheel.text.surrogates import is_surrogate, replace

_IDENTITY_PARAMS = frozenset({"user", "safety_identifier", "prompt_cache_key"})
"""Request parameters that hold the caller's own id of a person; the row's keyed ``subject`` stands for it."""

_ITEM_TEXTS = ("text", "features")
"""Of an item of a ranked list; its id is the product's own key, which reactions and rankers are joined by."""

_ROUNDS = 8
"""New neighbours can make a new number out of old digits; each round replaces what the last one uncovered."""


class Anonymiser:
    """Replaces what the detectors find; what is a surrogate already stays, so doing it twice changes nothing."""

    def __init__(self, keyring_key: bytes, privacy: PrivacyConfig) -> None:
        """Read the names file once.

        Args:
            keyring_key: secret of the surrogates (``Keyring.surrogate_key()``).
            privacy: detectors, names and phone regions.

        Raises:
            ConfigError: the names file cannot be read.
        """
        self._key = keyring_key
        self._detectors = tuple(privacy.detectors)
        self._regions = tuple(privacy.phone_regions)
        self._names = load_names(privacy.names_file)

    def text(self, text: str, conversation: str) -> str:
        """The text without personal data; one value has one surrogate within a conversation."""
        for _ in range(_ROUNDS):
            spans = detect(text, detectors=self._detectors, names=self._names, phone_regions=self._regions)
            if all(is_surrogate(span.kind, span.value) for span in spans):
                break
            text = replace(text, spans, key=self._key, conversation=conversation)
        return text

    def inference(self, inference: Inference) -> Inference:
        """Messages, answers, items, parameters and tags; the conversation is the session, else the row itself."""
        conversation = inference.session_id or inference.inference_id
        params = {name: value for name, value in inference.params.items() if name not in _IDENTITY_PARAMS}
        return inference.model_copy(
            update={
                "messages": [self._message(message, conversation) for message in inference.messages],
                "choices": [self.text(choice, conversation) for choice in inference.choices],
                "ranking": [self._item(item, conversation) for item in inference.ranking],
                "tool_calls": [self._calls(calls, conversation) for calls in inference.tool_calls],
                "params": self._deep(params, conversation),
                "tags": self._deep(inference.tags, conversation),
            }
        )

    def feedback(self, feedback: Feedback, conversation: str) -> Feedback:
        """The correction or comment, and what was done with items; ``conversation`` is that of the inference."""
        items = [item.model_copy(update={"action": self._deep(item.action, conversation)}) for item in feedback.items]
        return feedback.model_copy(update={"text": self._deep(feedback.text, conversation), "items": items})

    def shadow_pair(self, pair: ShadowPair, conversation: str) -> ShadowPair:
        """Both answers, what they call, tags and the error; ``conversation`` is that of the inference."""
        fields = ("live_answer", "candidate_answer", "error", "tags")
        update: dict[str, Any] = {name: self._deep(getattr(pair, name), conversation) for name in fields}
        for name in ("live_tool_calls", "candidate_tool_calls"):
            update[name] = self._calls(getattr(pair, name), conversation)
        return pair.model_copy(update=update)

    def _message(self, message: Message, conversation: str) -> Message:
        update: dict[str, Any] = {"content": self.text(message.content, conversation)}
        if message.name:
            update["name"] = self.text(message.name, conversation)
        if message.tool_calls:
            update["tool_calls"] = self._calls(message.tool_calls, conversation)
        return message.model_copy(update=update)

    def _calls(self, calls: Sequence[ToolCall], conversation: str) -> list[ToolCall]:
        """The same calls with surrogates in their arguments; ids and names stay, other messages refer to them."""
        return [call.model_copy(update={"function": self._called(call.function, conversation)}) for call in calls]

    def _called(self, function: FunctionCall, conversation: str) -> FunctionCall:
        clean = clean_json(function.arguments, lambda text: self.text(text, conversation))
        return function.model_copy(update={"arguments": clean})

    def _item(self, item: RankedCandidate, conversation: str) -> RankedCandidate:
        return item.model_copy(update={name: self._deep(getattr(item, name), conversation) for name in _ITEM_TEXTS})

    def _deep(self, value: Any, conversation: str) -> Any:
        if isinstance(value, str):
            return self.text(value, conversation)
        if isinstance(value, dict):
            return {key: self._deep(item, conversation) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._deep(item, conversation) for item in value]
        return value
