"""The product's side of the gateway: OpenAI's client with feedback and consent; ``flywheel.js`` for browsers."""

from flywheel.client.feedback import Ticket
from flywheel.client.openai_client import AsyncFlywheel, Flywheel, Receipt

__all__ = ["AsyncFlywheel", "Flywheel", "Receipt", "Ticket"]
