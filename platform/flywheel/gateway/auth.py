"""API keys: who may talk to the gateway, and where it may listen without any."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from flywheel.config import GatewayConfig
from flywheel.errors import UsageError
from flywheel.gateway.problems import ApiProblem


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as its key says."""

    tenant: str


class ApiKeys:
    """The accepted bearer keys; empty accepts everyone (loopback only)."""

    def __init__(self, keys: list[str], *, tenant: str = "default") -> None:
        self._caller = Caller(tenant)
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def check(self, authorization: str | None) -> Caller:
        """Whose key the header carries, in time that tells nothing about the keys.

        Raises:
            ApiProblem: 401.
        """
        if not self._digests:
            return self._caller
        scheme, _, key = (authorization or "").partition(" ")
        digest = hashlib.sha256(key.strip().encode()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise ApiProblem(
                401, "give a valid key as 'Authorization: Bearer KEY'", "authentication_error", code="invalid_api_key"
            )
        return self._caller


def load_keys(config: GatewayConfig, *, tenant: str = "default") -> ApiKeys:
    """Read the keys file; its keys belong to ``tenant``.

    Raises:
        UsageError: the file is missing or empty, or the gateway would listen beyond loopback without one.
    """
    if config.api_keys_file is None:
        if not is_loopback(config.host):
            raise UsageError(
                f"gateway.host is {config.host}, which others can reach, but no gateway.api_keys_file is set; "
                "give a file with one key a line, or listen on 127.0.0.1"
            )
        return ApiKeys([], tenant=tenant)
    return ApiKeys(_read(config.api_keys_file), tenant=tenant)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Path) -> list[str]:
    try:
        lines = path.expanduser().read_text().splitlines()
    except OSError as error:
        raise UsageError(f"gateway.api_keys_file {path} cannot be read: {error.strerror}") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise UsageError(f"gateway.api_keys_file {path} holds no key; write one key a line")
    return keys
