"""The OpenAPI document, made from what the code checks with; see ``http.operations`` for its routes."""

from __future__ import annotations

import json
from typing import Any

from flywheel.config import GatewayConfig
from flywheel.gateway.http.operations import paths
from flywheel.gateway.http.schemas import components

TITLE = "Flywheel gateway"


def document(*, limits: GatewayConfig) -> bytes:
    """The document as it is sent, once a process."""
    return json.dumps(described(limits), ensure_ascii=False, separators=(",", ":")).encode()


def described(limits: GatewayConfig) -> dict[str, Any]:
    """The document as a dict."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": "1",
            "description": "OpenAI's chat completions and completions, answered by the live model, recorded durably; "
            f"feedback and consent. A body may have {limits.max_body_bytes} bytes. Errors have OpenAI's shape, and "
            "every answer carries x-request-id.",
        },
        "servers": [{"url": "/"}],
        "paths": paths(),
        "components": components(),
        "security": [{"key": []}] if limits.api_keys_file else [],  # without keys it listens on loopback only
    }
