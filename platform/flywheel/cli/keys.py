"""API keys of the gateway: make, list, revoke."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.options import ConfigOption, JsonOption, SetOption, load_config
from flywheel.cli.output import console, print_json
from flywheel.errors import UsageError

if TYPE_CHECKING:
    from flywheel.gateway.keys import ApiKey

commands = typer.Typer()
keys = typer.Typer(help="API keys of the gateway: create, list, revoke.", no_args_is_help=True)
commands.add_typer(keys, name="keys", rich_help_panel="Start")
FileOption = Annotated[
    Path | None, typer.Option("--file", help="Key file; default: gateway.api_keys_file, else <home>/keys.")
]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Who or what will use it, for people.")],
    *,
    role: Annotated[
        list[str] | None, typer.Option(help="product (default), feedback, reviewer, operator; may be repeated.")
    ] = None,
    flow: Annotated[
        list[str] | None, typer.Option(help="A flow it may use, * for all; default: the configured one.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose traffic this is; default: the configured one.")] = None,
    requests_per_minute: Annotated[float | None, typer.Option(help="Limit of requests; default: none.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests that may come at once; default: 10 s' worth.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(help="Limit of prompt plus completion tokens.")] = None,
    expires: Annotated[str | None, typer.Option(help="30d, 12h, or a date such as 2027-01-31 (UTC).")] = None,
    file: FileOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is shown now and never again; only a digest of it is kept."""
    from flywheel.gateway.keyfile import change_keys
    from flywheel.gateway.keys import digest, new_secret

    settings = load_config(config, set_)
    secret = new_secret()
    key = _made(
        name=name, sha256=digest(secret), tenant=tenant or settings.tenant, roles=role or ["product"],
        flows=flow or [settings.flow], requests_per_minute=requests_per_minute, burst=burst,
        tokens_per_minute=tokens_per_minute, expires=_moment(expires) if expires else None,
    )  # fmt: skip
    path = _path(settings, file)
    change_keys(path, lambda held: [*held, key])
    if as_json:
        print_json({"secret": secret, "file": str(path), **_shown(key)})
        return
    print(f"{key.id} for {key.name}, in {path}\n\n  {secret}\n\nThis secret is not shown again.")
    if settings.gateway.api_keys_file is None and file is None:
        print(f"The gateway asks for no key yet. Tell it in the configuration: gateway: {{api_keys_file: {path}}}")


@keys.command("list")
def list_(
    file: FileOption = None, config: ConfigOption = None, set_: SetOption = None, as_json: JsonOption = False
) -> None:
    """Every key, without secrets: what it may do, and whether it still opens anything."""
    from flywheel.gateway.keyfile import read_keys

    held = [_shown(key) for key in read_keys(_path(load_config(config, set_), file))]
    if as_json:
        print_json(held)
        return
    from rich.table import Table

    table = Table("id", "name", "tenant", "roles", "flows", "limits", "state")
    for key in held:
        names = (key["id"], key["name"], key["tenant"], ", ".join(key["roles"]), ", ".join(key["flows"]))
        table.add_row(*names, _limits(key), _state(key))
    console().print(table)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `flywheel keys list` shows it: key-1a2b3c4d.")],
    file: FileOption = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close a key for good. Gateways that run notice within `gateway.api_keys_poll_s`."""
    from flywheel.gateway.keyfile import change_keys
    from flywheel.records import utcnow

    done: list[ApiKey] = []

    def change(held: list[ApiKey]) -> list[ApiKey]:
        found = next((key for key in held if key.id == key_id), None)
        if found is None:
            raise UsageError(f"there is no key {key_id} in {path}; see `flywheel keys list`")
        done.append(found if found.revoked else found.model_copy(update={"revoked": utcnow()}))
        return [done[0] if key.id == key_id else key for key in held]

    path = _path(load_config(config, set_), file)
    change_keys(path, change)
    print_json(_shown(done[0])) if as_json else print(f"{key_id} ({done[0].name}) is revoked.")


def _path(settings: Any, file: Path | None) -> Path:
    from flywheel.gateway.keyfile import key_file

    return file or key_file(settings)


def _made(**values: Any) -> ApiKey:
    """The key, or what is wrong about the options."""
    from pydantic import ValidationError

    from flywheel.gateway.keys import ApiKey, new_id

    try:
        return ApiKey.model_validate({"id": new_id(), **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = str(first["loc"][0]).removesuffix("s") if first["loc"] else "key"
        raise UsageError(f"--{option.replace('_', '-')}: {first['msg']}") from error


def _moment(text: str) -> datetime:
    """``30d`` and ``12h`` from now, or a date or time, UTC where it names no zone."""
    if found := re.fullmatch(r"(\d{1,5})([dh])", text):
        hours = int(found[1]) * (24 if found[2] == "d" else 1)
        return datetime.now(UTC) + timedelta(hours=hours)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--expires '{text}' is no time; write 30d, 12h, or a date such as 2027-01-31") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= datetime.now(UTC):
        raise UsageError(f"--expires '{text}' is past; name a time to come")
    return moment


def _shown(key: ApiKey) -> dict[str, Any]:
    """A key for people and machines: its state instead of its digest."""
    from flywheel.records import utcnow

    return {**key.model_dump(mode="json", exclude={"sha256"}), "state": key.state(utcnow())}


def _limits(key: dict[str, Any]) -> str:
    named = [(key["requests_per_minute"], "requests/min"), (key["tokens_per_minute"], "tokens/min")]
    return ", ".join(f"{value:g} {unit}" for value, unit in named if value is not None) or "none"


def _state(key: dict[str, Any]) -> str:
    return f"active until {key['expires'][:10]}" if key["state"] == "active" and key["expires"] else key["state"]
