"""Which role each route needs, and what a caller is told who may not use it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flywheel.gateway.auth import Caller
from flywheel.gateway.keys import KEY_ROLES, KeyRole
from flywheel.gateway.problems import ApiProblem


@dataclass(frozen=True)
class Access:
    """Who may use a route: a key with one of ``roles``; with ``public`` anybody, without a key."""

    roles: tuple[KeyRole, ...] = KEY_ROLES
    public: bool = False
    generates: bool = False
    """It costs tokens: refused while the key's budget of them is used up."""


PUBLIC: Final = Access(public=True)
ANY_KEY: Final = Access()
GENERATE: Final = Access(("product",), generates=True)
OPERATE: Final = Access(("operator",))

ROUTES: Final[dict[tuple[str, str], Access]] = {
    ("POST", "/v1/chat/completions"): GENERATE,
    ("POST", "/v1/completions"): GENERATE,
    ("POST", "/v1/rank"): GENERATE,
    ("GET", "/v1/models"): ANY_KEY,
    ("GET", "/v1/models/{model}"): ANY_KEY,
    ("POST", "/v1/feedback"): Access(("product", "feedback")),
    ("POST", "/v1/consent"): Access(("product",)),
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): OPERATE,
    ("GET", "/openapi.json"): ANY_KEY,
}
"""Every route of the gateway, by method and path; HEAD is GET. One that is not here needs the role operator."""


def check_access(caller: Caller, access: Access, flow: str) -> None:
    """Return when ``caller`` may use a route of the gateway of ``flow``.

    Raises:
        ApiProblem: 403, saying which role or flow its key lacks.
    """
    if not caller.serves(flow):
        raise _forbidden(f"this key is not for the flow '{flow}'; use one that is", "flow_not_allowed")
    if caller.roles.isdisjoint(access.roles):
        needed = " or ".join(access.roles)
        raise _forbidden(f"this route needs a key with the role {needed}", "role_not_allowed")


def _forbidden(message: str, code: str) -> ApiProblem:
    return ApiProblem(403, message, "permission_error", code=code)
