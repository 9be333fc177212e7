"""`joule key`: make, show, export and import keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from node.cli.terminal.options import examples, json_option, keystore, passphrase_option, read_passphrase
from node.cli.terminal.output import print_facts, print_json, print_table
from node.config import default_data_dir
from node.json_values import plain
from node.keystore import LIGHT, STANDARD, KeyFile, generate, parse_keyfile
from protocol.errors import InvalidError, KeystoreError
from protocol.identity.signing import SigningKey

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    default=default_data_dir,
    help="Where keys and state are kept.  [default: JOULE_HOME, else the platform's folder for user data]",
)
name_option = click.option("--name", metavar="NAME", default="default", show_default=True, help="Name of the new key.")
light_option = click.option(
    "--light", is_flag=True, help="Weak protection that opens at once: for throw-away keys on local networks."
)


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("name", metavar="[NAME|PATH]", envvar="JOULE_KEY", default="default")(command)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What may be shown of a key without its passphrase."""

    name: str
    """In the keystore."""
    address: bytes | None
    """On Ethereum and on the ledger; null where the file does not say it."""
    peer_id: str | None
    """On libp2p; null until the key is imported."""
    public_key: bytes | None
    """Compressed secp256k1, 33 bytes; null until the key is imported."""
    path: Path | None
    """Where its file is."""


def describe(key: KeyFile) -> KeyFacts:
    """A key's facts; needs no passphrase."""
    from protocol.identity.peer_id import peer_id_of

    return KeyFacts(
        name=key.name,
        address=key.address,
        peer_id=None if key.public_key is None else peer_id_of(key.public_key),
        public_key=key.public_key,
        path=key.path,
    )


def _print_key(key: KeyFile, as_json: bool) -> None:
    facts = describe(key)
    if as_json:
        print_json(facts)
    else:
        shown = plain(facts)
        print_facts({label.replace("_", " "): value or "unknown until imported" for label, value in shown.items()})


@click.group(epilog=examples("joule key new", "joule key show"))
def key() -> None:
    """Keys: one secp256k1 key is a party's libp2p peer and its Ethereum address."""


@key.command(epilog=examples("joule key new", "joule key new --name berlin --passphrase-file pass.txt"))
@name_option
@light_option
@passphrase_option
@data_dir_option
@json_option
def new(name: str, light: bool, passphrase_file: Path | None, data_dir: Path, as_json: bool) -> None:
    """Make a key and keep it, encrypted.

    The file is a Web3 Secret Storage v3 keystore that Ethereum wallets import. A lost passphrase cannot be recovered.
    """
    passphrase = read_passphrase(passphrase_file, f"New passphrase for the key {name!r}", confirm=True)
    factor = LIGHT if light else STANDARD
    _print_key(keystore(data_dir).create(name, generate(), passphrase, work_factor=factor), as_json)


@key.command(epilog=examples("joule key show", "joule key show berlin --json"))
@_chosen
@data_dir_option
@json_option
def show(name: str, data_dir: Path, as_json: bool) -> None:
    """Show a key's address and peer id; needs no passphrase."""
    _print_key(keystore(data_dir).find(name), as_json)


@key.command("list", epilog=examples("joule key list"))
@data_dir_option
@json_option
def list_keys(data_dir: Path, as_json: bool) -> None:
    """List the keys that are kept here."""
    keys = [describe(each) for each in keystore(data_dir).list()]
    if as_json:
        print_json(keys)
    elif keys:
        rows = [[each.name, plain(each.address) or "?", each.peer_id or "?"] for each in keys]
        print_table(("name", "address", "peer id"), rows)
    else:
        click.echo("no keys yet: make one with `joule key new`")


@key.command(epilog=examples("joule key export > default.json", "joule key export berlin --secret"))
@_chosen
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write a new file that only you can read.")
@click.option("--secret", is_flag=True, help="Decrypt it, and export the bare secret as hex.")
@click.option("--yes", is_flag=True, help="Do not ask whether to show the secret.")
@passphrase_option
@data_dir_option
def export(name: str, out: Path | None, secret: bool, yes: bool, passphrase_file: Path | None, data_dir: Path) -> None:
    """Export a key for another wallet: its encrypted v3 JSON, or with --secret the bare secret.

    Whoever sees the bare secret can spend what the key holds.
    """
    found = keystore(data_dir).find(name)
    if not secret:
        _deliver(found.exported(), out)
        return
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("--secret asks first, and there is no terminal to ask on; add --yes")
        click.confirm(
            f"Show the secret of {name!r}? Whoever sees it can spend what the key holds.", abort=True, err=True
        )
    _deliver(found.unlock(read_passphrase(passphrase_file, f"Passphrase for {name!r}")).secret.hex() + "\n", out)


def _deliver(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise KeystoreError(
            f"cannot write {out}: {error.strerror}", hint="an existing file is not overwritten"
        ) from None


@key.command(
    "import", epilog=examples("joule key import wallet.json", "joule key import --secret-file secret.txt --name cold")
)
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A file with the bare secret as 64 hex digits, in place of an encrypted one.",
)
@name_option
@light_option
@passphrase_option
@data_dir_option
@json_option
def import_key(
    file: Path | None,
    secret_file: Path | None,
    name: str,
    light: bool,
    passphrase_file: Path | None,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Import a key from another wallet: a v3 keystore FILE, or a bare secret.

    It is kept under the passphrase that opens FILE, or for a bare secret under a new one.
    """
    if (file is None) == (secret_file is None):
        raise click.UsageError("give either a keystore FILE or --secret-file")
    if file is not None:
        found = parse_keyfile(_read(file), file.name)
        passphrase = read_passphrase(passphrase_file, f"Passphrase of {file.name}")
        imported = found.unlock(passphrase)
    else:
        imported = _bare_key(secret_file)
        passphrase = read_passphrase(passphrase_file, f"New passphrase for the key {name!r}", confirm=True)
    factor = LIGHT if light else STANDARD
    _print_key(keystore(data_dir).create(name, imported, passphrase, work_factor=factor), as_json)


def _bare_key(file: Path | None) -> SigningKey:
    if file is None:
        raise click.UsageError("give either a keystore FILE or --secret-file")
    try:
        return SigningKey(bytes.fromhex(_read(file).decode("ascii").strip().removeprefix("0x")))
    except (ValueError, InvalidError):
        raise KeystoreError(f"{file} does not hold a secret key", hint="it is 64 hex digits") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise KeystoreError(f"cannot read {file}: {error.strerror}") from None
