"""`joule node setup`: from an empty machine to a node that starts at boot; and `joule unit` for the other services."""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from node.app.diagnosis.finding import Finding
from node.cli.terminal.boundary import FAILED
from node.cli.terminal.options import examples, flags_of, json_option, keystore, read_passphrase
from node.cli.terminal.output import print_json, print_table
from node.cli.terminal.running import run_job
from node.config import NodeConfig, default_data_dir
from node.durable import create_file
from node.keystore import Keystore, generate
from node.service_unit import SERVICES, SYSTEM_STATE, service_unit
from node.settings import declared, load, template
from protocol.errors import ConfigurationError, KeystoreError, LocalError
from protocol.identity.ids import checksum_address

ASKED = ("model", "blocks", "ledger", "jurisdiction", "energy_price")
"""Settings that a person is asked for where no flag gives them."""
FLAGS = (*ASKED, "precision", "region", "tariff", "pue", "meter", "meter_url", "peers", "listen", "data_port", "key")
PEERS_PORT, DATA_PORT = 4001, 4002


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetUp:
    """What was written, and what was found."""

    config: Path
    """The node's settings file."""
    unit: Path
    """Its systemd unit."""
    passphrase: Path
    """The file that opens its key."""
    address: bytes | None
    """Of its key; null where a key file that was there does not say it."""
    findings: tuple[Finding, ...]
    """What the settings come to on this machine."""
    next: tuple[str, ...]
    """Commands that start it, and show what it tells."""


@click.command(
    epilog=examples(
        "joule node setup",
        "joule node setup --model /srv/models/Qwen3-8B --public 203.0.113.7 --jurisdiction DE --energy-price 0.31",
    )
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the files are written.  [default: /etc/joule for root, else ~/.config/joule]",
)
@click.option(
    "--public",
    metavar="HOST",
    help="The IP address or name that others reach this machine at; left out, only this machine finds the node.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="Of the key. Left out, one is made, for the unit to open the key with.",
)
@click.option("--user", is_flag=True, help="A service of your own, though you are root.")
@flags_of(NodeConfig, FLAGS)
@json_option
def setup(
    flags: dict[str, Any],
    folder: Path | None,
    public: str | None,
    passphrase_file: Path | None,
    user: bool,
    as_json: bool,
) -> int:
    """Write settings, key and systemd unit of a node, and look whether this machine is ready for it.

    Whatever no flag says is asked for on a terminal, and has its default elsewhere. Root sets up a service of the
    system, which runs confined and under a user of its own; anybody else one of their own. Nothing that exists is
    overwritten, and nothing is started. The status is 1 where something would not work yet.
    """
    system = os.geteuid() == 0 and not user
    folder = (folder or (Path("/etc/joule") if system else Path.home() / ".config" / "joule")).absolute()
    files = folder / "node.toml", folder / "joule-node.service", folder / "passphrase"
    for each in files[: 2 if passphrase_file is not None else 3]:
        if each.exists():
            raise ConfigurationError(f"{each} is there already", hint="choose another --folder, or edit what is there")
    if sys.stdin.isatty() and not as_json:
        public = _asked(flags, public)
    home = SYSTEM_STATE if system else default_data_dir()
    for name in ("model", "tariff"):  # a model may also be a name, to be fetched
        if flags.get(name) and Path(flags[name]).exists():
            flags[name] = str(Path(flags[name]).absolute())
    config = load(NodeConfig, environment={}, flags={**flags, **_reached(flags, public), "data_dir": str(home)})
    passphrase = passphrase_file.absolute() if passphrase_file is not None else files[2]
    address = _key(config, keystore(home), folder, passphrase)
    title = "Settings of a Joulemesh provider, written by `joule node setup`"
    _write(files[0], template(NodeConfig, title=title, values=config), secret=False)
    joule = _joule()
    unit = service_unit("node", joule=joule, config=files[0], passphrase=passphrase, home=home, system=system)
    _write(files[1], unit, secret=False)
    found = NodeSetUp(
        config=files[0],
        unit=files[1],
        passphrase=passphrase,
        address=address,
        findings=(*_looked(config), *_hidden(config, joule, system), _backup(config, keystore(home), passphrase)),
        next=tuple(_next(files[1], system)),
    )
    _print(found, as_json)
    return FAILED if any(each.level == "fail" for each in found.findings) else 0


def _asked(flags: dict[str, Any], public: str | None) -> str | None:
    """Ask for what no flag said; each answer is checked as it is given. The public host."""
    for each in declared(NodeConfig):
        if each.name not in ASKED or flags.get(each.name) is not None:
            continue

        def parsed(text: str, each: Any = each) -> str:
            try:
                each.kind.parse(text)
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            return text

        default = None if each.required else ("" if each.default is None else each.default_text)
        click.echo(f"\n{each.about}")
        answer = click.prompt(each.name, default=default, value_proc=lambda text: parsed(text) if text else text)
        flags[each.name] = answer or None
    if public is None:
        click.echo("\nThe IP address or name that others reach this machine at; empty for this machine only.")
        public = click.prompt("public", default="") or None
    return public


def _reached(flags: dict[str, Any], public: str | None) -> dict[str, Any]:
    """The settings that make a machine known under an address; none where nobody says one."""
    if public is None:
        return {}
    listen = flags.get("listen") or f"/ip4/0.0.0.0/tcp/{PEERS_PORT}"
    kind = _kind(public)
    return {
        "listen": listen,
        "announce": (f"/{kind}/{public}/tcp/{listen.rpartition('/')[2]}",),
        "data_host": "::" if kind == "ip6" else "0.0.0.0",  # noqa: S104 - what others are to reach
        "data_port": flags.get("data_port") or str(DATA_PORT),
        "data_announce": public,
    }


def _kind(host: str) -> str:
    try:
        return f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        return "dns4"


def _key(config: NodeConfig, keys: Keystore, folder: Path, passphrase: Path) -> bytes | None:
    """The address of the node's key, made where there is none. Raises KeystoreError."""
    try:
        found = keys.find(config.key)
    except KeystoreError:
        _folder(folder)
        if not passphrase.exists():
            _write(passphrase, secrets.token_hex(16) + "\n")
        return keys.create(config.key, generate(), read_passphrase(passphrase, "")).address
    if not passphrase.exists():
        hint = "--passphrase-file names a file with it; or --key, a key to be made"
        raise KeystoreError(f"the key {config.key!r} is there already, and {passphrase} is not", hint=hint)
    found.unlock(read_passphrase(passphrase, ""))  # the unit could not, either
    _folder(folder)
    return found.address


def _backup(config: NodeConfig, keys: Keystore, passphrase: Path) -> Finding:
    path = keys.find(config.key).path
    fix = f"copy {path} and {passphrase} to another machine: whoever loses them loses what the node earns"
    return Finding("note", "backup", "the key is on this machine alone", fix)


def _hidden(config: NodeConfig, joule: Path, system: bool) -> Iterator[Finding]:
    """What the user that a service of the system runs as cannot read."""
    for each in (joule.resolve(), config.model, *(() if config.tariff is None else (config.tariff,))):
        closed = [part for part in (each, *each.parents) if part.exists() and not part.stat().st_mode & 0o005]
        if system and closed:
            fix = "move it to /opt or /srv, or open it with chmod o+rx"
            yield Finding("fail", "files", f"the service's own user cannot read {each}: {closed[0]} is closed", fix)


def _looked(config: NodeConfig) -> list[Finding]:
    from node.app.selling.setting_up import findings_of

    return run_job(findings_of(config))[0]


def _next(unit: Path, system: bool) -> Iterator[str]:
    if system:
        yield f"systemctl enable --now {unit}"
        yield "journalctl -u joule-node -f"
    else:
        yield f"systemctl --user enable --now {unit}"
        yield f"loginctl enable-linger {os.environ.get('USER', '')}".rstrip()
        yield "journalctl --user -u joule-node -f"


def _print(found: NodeSetUp, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    click.echo(f"\nwrote {found.config}, {found.unit.name} and {found.passphrase}")
    if found.address is not None:
        click.echo(f"the node is {checksum_address(found.address)}\n")
    print_table(("", "what", "found", "what to do"), [[x.level, x.what, x.detail, x.fix] for x in found.findings])
    click.echo("next:")
    for line in found.next:
        click.echo(f"  {line}")


def _joule() -> Path:
    """The command of this very installation."""
    beside = Path(sys.executable).with_name("joule")
    return beside if beside.exists() else Path(shutil.which("joule") or sys.argv[0]).absolute()


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise LocalError(f"cannot make {folder}: {error.strerror}", hint="choose another --folder") from None


def _write(path: Path, text: str, *, secret: bool = True) -> None:
    """A new file, whole or not at all. Raises LocalError."""
    _folder(path.parent)
    try:
        if not create_file(path, text.encode()):
            raise ConfigurationError(f"{path} is there already", hint="choose another --folder, or edit what is there")
        if not secret:
            path.chmod(0o644)  # the user that a service runs as is not its files' owner
    except OSError as error:
        raise LocalError(f"cannot write {path}: {error.strerror}", hint="choose another --folder") from None


@click.command(
    epilog=examples(
        "joule unit ledger --config /etc/joule/ledger.toml --passphrase-file /etc/joule/passphrase",
        "joule unit witness --config witness.toml --passphrase-file pass --user",
    )
)
@click.argument("service", type=click.Choice(sorted(SERVICES)))
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    metavar="FILE",
    help="Its settings.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="That opens its key.",
)
@click.option("--user", is_flag=True, help="One that you run yourself, not the system.")
@json_option
def unit(service: str, config: Path, passphrase_file: Path | None, user: bool, as_json: bool) -> None:
    """Print the systemd unit of a service, such as a ledger: started at boot, confined, and again when it fails."""
    text = service_unit(
        service,
        joule=_joule(),
        config=config.absolute(),
        passphrase=None if passphrase_file is None else passphrase_file.absolute(),
        home=default_data_dir(),
        system=not user,
    )
    if as_json:
        print_json(Unit(service=service, text=text))
    else:
        click.echo(text, nl=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd unit."""

    service: str
    """``node``, ``ledger``, ``gateway``, ``witness`` or ``anchor``."""
    text: str
    """Of the unit file."""
