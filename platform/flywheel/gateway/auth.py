"""API keys: who may talk to the gateway, and where it may listen without any."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flywheel.config import GatewayConfig
from flywheel.errors import UsageError
from flywheel.gateway import metrics
from flywheel.gateway.keyfile import read_keys
from flywheel.gateway.keys import EVERY_FLOW, ApiKey, KeyRole, digest
from flywheel.gateway.limits import Meter, Meters
from flywheel.gateway.problems import ApiProblem
from flywheel.records import utcnow

log = logging.getLogger(__name__)
Mark = tuple[int, ...]

OPEN_ROLES: Final[frozenset[KeyRole]] = frozenset({"product", "reviewer", "operator"})
"""Of everybody on this machine where no keys are asked for. Not ``feedback``: ratings still need their token."""


@dataclass(frozen=True)
class Caller:
    """Who sent a request, as its key says."""

    tenant: str
    key_id: str | None = None
    roles: frozenset[str] = OPEN_ROLES
    flows: frozenset[str] = frozenset({EVERY_FLOW})
    meter: Meter | None = None

    def serves(self, flow: str) -> bool:
        """Whether it may use ``flow``."""
        return flow in self.flows or EVERY_FLOW in self.flows


class ApiKeys:
    """The accepted keys. Made without any it accepts everyone (loopback only), and stays so.

    Args:
        keys: all of the file, revoked and expired ones too: their holders are told why they are refused.
        tenant: of the callers where no key is asked for.
        path: the file to follow; None: the keys never change.
        replicas: of the gateway, which share each key's limits.
        poll_s: how often the file is looked at.
    """

    def __init__(
        self,
        keys: Iterable[ApiKey] = (),
        *,
        tenant: str = "default",
        path: Path | None = None,
        replicas: int = 1,
        poll_s: float = 1.0,
    ) -> None:
        self._path, self._poll_s = path, poll_s
        self._seen: Mark | None = ()  # nothing yet: what was read may have changed since
        self._meters = Meters(replicas)
        self._known: dict[str, tuple[ApiKey, Caller]] = {}
        self.follow(keys)
        self._anyone = None if self._known else Caller(tenant)

    def follow(self, keys: Iterable[ApiKey]) -> None:
        """Accept these keys from now on."""
        self._keys = list(keys)
        self._meters.follow(self._keys)
        # Found by the digest of what was sent: how long that takes tells about the digest, never about a secret.
        self._known = {key.sha256: (key, _caller(key, self._meters.of(key.id))) for key in self._keys}

    def check(self, authorization: str | None) -> Caller:
        """Whose key the header carries.

        Raises:
            ApiProblem: 401.
        """
        if self._anyone is not None:
            return self._anyone
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthorised("give a key as 'Authorization: Bearer KEY'", "invalid_api_key")
        held = self._known.get(digest(secret.strip()))
        if held is None:
            raise _unauthorised("this gateway does not know this key", "invalid_api_key")
        key, caller = held
        state = key.state(utcnow())
        if state != "active":
            raise _unauthorised(f"{key.id} is {state}; ask for a new key", f"key_{state}")
        return caller

    def charge(self, key_id: str | None, tokens: int) -> None:
        """An answer to a caller with this key used ``tokens``."""
        meter = self._meters.of(key_id) if key_id else None
        if meter is not None:
            meter.charge(tokens)

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the file if it changed. A bad one is reported and the last good one stays in force."""
        if self._path is None:
            return
        mark = await asyncio.to_thread(_mark, self._path)
        if mark == self._seen:
            return
        self._seen = mark
        try:
            keys = await asyncio.to_thread(_required, self._path)
        except UsageError as error:
            metrics.KEYS_STALE.set(1)
            log.error("the keys that were read before stay in force: %s", error)  # noqa: TRY400 - it says it all
            return
        metrics.KEYS_STALE.set(0)
        if keys != self._keys:
            self.follow(keys)
            log.warning("the keys of %s changed: %d are known now", self._path, len(keys))


def load_keys(config: GatewayConfig, *, tenant: str = "default") -> ApiKeys:
    """Read the key file and follow it; without one, everybody is ``tenant``.

    Raises:
        UsageError: the file is missing, wrong or empty, or the gateway would listen beyond loopback without one.
    """
    if config.api_keys_file is None:
        if not is_loopback(config.host):
            raise UsageError(
                f"gateway.host is {config.host}, which others can reach, but no gateway.api_keys_file is set; "
                "make keys with `flywheel keys create`, or listen on 127.0.0.1"
            )
        return ApiKeys([], tenant=tenant)
    path = config.api_keys_file.expanduser()
    return ApiKeys(
        _required(path), tenant=tenant, path=path, replicas=config.num_replicas, poll_s=config.api_keys_poll_s
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _caller(key: ApiKey, meter: Meter | None) -> Caller:
    return Caller(key.tenant, key.id, frozenset(key.roles), frozenset(key.flows), meter)


def _required(path: Path) -> list[ApiKey]:
    keys = read_keys(path)
    if not keys:
        raise UsageError(f"the key file {path} holds no key; make one with `flywheel keys create`")
    return keys


def _mark(path: Path) -> Mark | None:
    """What changes when the file does; None while it cannot be seen. Follows links: mounted secrets swap them."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_mode


def _unauthorised(message: str, code: str) -> ApiProblem:
    return ApiProblem(401, message, "authentication_error", code=code)
