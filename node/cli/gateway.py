"""`joule gateway`: an endpoint that speaks OpenAI's API, and its API keys."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.ledgers.keeping import keeping_commands
from node.cli.terminal.options import configured, examples, json_option, key_file, passphrase_option, unlocked
from node.cli.terminal.output import money, print_facts, print_json, print_table, tell
from node.cli.terminal.running import run_job, serve, survive_hangups
from node.config import GatewayConfig, markets_of
from protocol.errors import ConfigurationError, KeystoreError
from protocol.identity.ids import checksum_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.gateway.keys import Key

_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKey:
    """An API key as it stands."""

    id: str
    """What it is revoked by."""
    name: str
    """For people."""
    budget_micro: int | None
    """Micro-units that it may spend in all; null for no limit."""
    spent_micro: int
    """Micro-units spent."""
    held_micro: int
    """Micro-units held for answers that run now."""
    rate: int | None
    """Requests in a minute."""
    at_once: int | None
    """Answers at once."""
    models: tuple[str, ...]
    """That it may ask for; any where there are none."""
    policy: dict[str, str | tuple[str, ...]]
    """What holds for its requests, as the field ``joule`` of a request says it."""
    made_at: int
    """Unix seconds."""
    expires_at: int | None
    """Unix seconds."""
    revoked_at: int | None
    """Unix seconds; null while it is good."""
    secret: str | None
    """The key itself, once: when it is made."""


@click.group(epilog=examples("joule gateway run", "joule gateway key new app --budget 2"))
def gateway() -> None:
    """An endpoint on this machine that applications use as they use OpenAI's."""


@gateway.command(epilog=examples("joule gateway run", "joule gateway run --port 8640 --allow EU --max-price-out 2"))
@configured(GatewayConfig, again=True)
@passphrase_option
@json_option
def run(
    config: GatewayConfig,
    read: Callable[[], GatewayConfig],
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Run a gateway until it is stopped: chat, completions and models, paid by this machine's key.

    Applications are given its URL, http://127.0.0.1:8640/v1, and any API key; once there is a key made by `joule
    gateway key new`, or where it listens beyond this machine, one of those. The settings of the policy bound every
    request.
    """
    from node.app.daemons.gateway import run_gateway
    from node.app.process.reload import Reload

    survive_hangups()
    events = tell(config, as_json=as_json)
    reload = Reload(config, read, events)
    reload.follow(events.follow)
    serve(run_gateway(config, unlocked(config, passphrase_file), events), events=events, reload=reload)


@gateway.command(epilog=examples("joule gateway balance", "joule gateway balance --market chain.toml --json"))
@configured(GatewayConfig, only=("ledger", "markets", "key", "data_dir", "witnesses", "min_witnesses", "confirmations"))
@json_option
def balance(config: GatewayConfig, as_json: bool) -> int:
    """Show what the gateway's key has at each of its markets, and in all of them together."""
    from node.app.buying.markets import balances

    whose = key_file(config).address
    if whose is None:
        raise KeystoreError(f"the key file {config.key} does not name its address", hint="import it: joule key import")
    found, status = run_job(balances(markets_of(config), whose))
    if as_json:
        print_json(found)
        return status
    rows = [(each.market, each.venue, _money(each.free), _money(each.held), each.error) for each in found.markets]
    print_table(("market", "ledger or contract", "free $", "held $", ""), rows)
    click.echo(f"{checksum_address(whose)}  ${money(found.free)} free, ${money(found.held)} held by open sessions")
    return status


def _money(micro: int | None) -> str:
    return "?" if micro is None else money(micro)


for _command in keeping_commands("gateway", GatewayConfig):
    gateway.add_command(_command)


@gateway.group(epilog=examples("joule gateway key new app --budget 2", "joule gateway key list"))
def key() -> None:
    """API keys: what each may ask for and spend."""


@key.command(
    epilog=examples(
        "joule gateway key new app --budget 2 --rate 60 --expires 30d",
        "joule gateway key new reports --model llama-6x192 --places EU --max-price-out 2",
    )
)
@configured(GatewayConfig, only=("data_dir",))
@click.argument("name")
@click.option("--budget", metavar="$", help="What it may spend in all. No limit when left out.")
@click.option("--rate", type=click.IntRange(1, 1_000_000), help="Requests in a minute.")
@click.option("--at-once", type=click.IntRange(1, 100_000), help="Answers at once.")
@click.option("--expires", metavar="TIME", help="After so long it is good for nothing, such as 12h or 30d.")
@click.option("--model", "models", multiple=True, metavar="NAME|ROOT", help="Only this model; may be repeated.")
@click.option("--places", metavar="CODES", help="Where machines may stand, at most.")
@click.option("--deny", metavar="CODES", help="Where they must not.")
@click.option("--max-price-in", metavar="$", help="Most per million prompt tokens.")
@click.option("--max-price-out", metavar="$", help="Most per million generated tokens.")
@click.option("--class", "latency_class", metavar="WORD", help="How soon tokens are needed: no other class.")
@click.option("--evidence", metavar="WORD", help="Least evidence of where a provider stands.")
@click.option("--precision", metavar="TEXT", help="The number format of the model.")
@click.option(
    "--trusted-end",
    "trusted_ends",
    multiple=True,
    metavar="ADDRESS",
    help="Only this provider may serve the first and the last blocks; may be repeated.",
)
@click.option("--end-blocks", type=int, help="How many of the first, and of the last, blocks that is.")
@json_option
def new(
    config: GatewayConfig,
    name: str,
    budget: str | None,
    rate: int | None,
    at_once: int | None,
    expires: str | None,
    models: tuple[str, ...],
    as_json: bool,
    **policy: Any,
) -> None:
    """Make an API key, and print it: it is shown once, and only its hash is kept.

    From the first key on, every request to the gateway needs one.
    """
    from node.gateway.keys import KeyTerms
    from node.gateway.limits import PER_MILLION, limits_from_parameters
    from node.gateway.reading import Parameters
    from node.gateway.refusals import ApiError

    policy["class"] = policy.pop("latency_class")
    policy["trusted_ends"] = list(policy["trusted_ends"]) or None
    try:
        limits = limits_from_parameters(Parameters(policy))
    except ApiError as error:
        raise ConfigurationError(error.message, hint="joule gateway key new --help") from None
    try:
        budget_micro = None if budget is None else PER_MILLION.parse(budget)
    except ValueError as error:
        raise ConfigurationError(f"--budget: {error}", hint="write it like 2.50") from None
    if not re.fullmatch(r"[\w .@-]{1,64}", name):
        raise ConfigurationError("a key's name has 1 to 64 letters, digits, spaces and . @ - _")
    terms = KeyTerms(
        name=name,
        budget_micro=budget_micro,
        rate=rate,
        at_once=at_once,
        expires_at=None if expires is None else int(time.time()) + _seconds(expires),
        models=models,
        limits=limits,
    )
    made, secret = asyncio.run(_with_keys(config, lambda keys: keys.new(terms)))
    if as_json:
        print_json(_shown(made, secret))
    else:
        print_facts({"id": made.id, "key": secret})
        click.echo("Keep it now: it is not shown again.")


@key.command("list", epilog=examples("joule gateway key list --json"))
@configured(GatewayConfig, only=("data_dir",))
@json_option
def list_keys(config: GatewayConfig, as_json: bool) -> None:
    """List all keys, with what they have spent."""
    found: list[Key] = asyncio.run(_with_keys(config, lambda keys: keys.all()))
    if as_json:
        print_json([_shown(each) for each in found])
        return
    columns = ("id", "name", "spent $", "held $", "budget $", "good until")
    rows = [
        (
            each.id,
            each.terms.name,
            money(each.spent_micro),
            money(each.held_micro),
            "any" if each.terms.budget_micro is None else money(each.terms.budget_micro),
            _until(each),
        )
        for each in found
    ]
    print_table(columns, rows)


@key.command(epilog=examples("joule gateway key revoke 1f0c9ab2"))
@configured(GatewayConfig, only=("data_dir",))
@click.argument("identity", metavar="ID")
@json_option
def revoke(config: GatewayConfig, identity: str, as_json: bool) -> None:
    """Make a key good for nothing, at once and for good. Answers that run are seen through."""
    revoked: Key = asyncio.run(_with_keys(config, lambda keys: keys.revoke(identity)))
    if as_json:
        print_json(_shown(revoked))
    else:
        click.echo(f"revoked {revoked.id} ({revoked.terms.name})")


async def _with_keys(config: GatewayConfig, act: Callable[[Any], Any]) -> Any:
    from node.app.daemons.gateway import gateway_keys

    async with gateway_keys(config.data_dir) as keys:
        return await act(keys)


def _shown(key: Key, secret: str | None = None) -> ShownKey:
    terms = key.terms
    return ShownKey(
        id=key.id,
        name=terms.name,
        budget_micro=terms.budget_micro,
        spent_micro=key.spent_micro,
        held_micro=key.held_micro,
        rate=terms.rate,
        at_once=terms.at_once,
        models=terms.models,
        policy=terms.limits.to_json(),
        made_at=key.made_at,
        expires_at=terms.expires_at,
        revoked_at=key.revoked_at,
        secret=secret,
    )


def _until(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.terms.expires_at is None:
        return "it is revoked"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(key.terms.expires_at))


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text.strip())
    if found is None:
        raise ConfigurationError(f"{text!r} is no time", hint="write 90m, 12h or 30d")
    return int(found[1]) * _SECONDS[found[2]]
