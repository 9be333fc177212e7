"""`joule attest`: sign for where a node stands, take it back, and sign lists of whom not to use."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import print_facts, print_json
from node.config import ClientConfig
from node.json_values import plain
from node.settings.law import Place
from node.signed_files import read_signed, write_signed
from protocol.errors import ConfigurationError, InvalidError, LocalError, PeerError

if TYPE_CHECKING:
    from protocol.identity.signing import SigningKey
    from protocol.policy.denials import Denial, Denials

DAY_S = 86_400
file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
out_option = click.option(
    "--out", required=True, metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it."
)
days_option = click.option(
    "--days", type=click.IntRange(1, 3_660), default=90, show_default=True, metavar="DAYS", help="How long it counts."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A signed statement about a node, or a signed list."""

    kind: str
    """``statement`` or ``list``."""
    signer: bytes
    """Address of whoever signed it."""
    about: str
    """The address of the node that a statement is about, or the name of a list."""
    says: tuple[str, ...]
    """What is claimed, or what is denied, a line each."""
    issued_at: int
    """Unix seconds."""
    effective_from: int
    """Unix seconds; before that it counts for nothing."""
    expires_at: int
    """Unix seconds; from then on it counts for nothing."""
    hash: bytes
    """What a receipt names a list by, or a list a statement."""


@click.group(
    epilog=examples(
        "joule attest place PEER_ID DE-BE --key auditor --out berlin.statement",
        "joule attest revoke berlin.statement --key auditor --out taken-back.list",
    )
)
def attest() -> None:
    """Signed statements on where machines stand, and signed lists of whom, where and what not to use."""


@attest.command(epilog=examples("joule attest place PEER_ID DE-BE --key auditor --out berlin.statement --days 30"))
@click.argument("node", metavar="PEER_ID")
@click.argument("where", metavar="CODE")
@configured(ClientConfig, only=("key", "data_dir"))
@out_option
@days_option
@passphrase_option
@json_option
def place(
    config: ClientConfig,
    node: str,
    where: str,
    out: Path,
    days: int,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Sign that the node with a PEER_ID stands in CODE: you have seen it, and answer for it.

    Its operator takes the file as --statement; clients believe it who name your address as --attestor.
    """
    from protocol.identity.peer_id import public_key_of
    from protocol.identity.signing import seal
    from protocol.market.offer import Statement
    from protocol.policy.residency import PLACE_CLAIM

    try:
        subject, code = public_key_of(node), Place().parse(where)
    except (PeerError, ValueError) as error:
        raise ConfigurationError(str(error), hint="`joule key show` shows a node's peer id") from None
    _require_absent(out)
    key, now = unlocked(config, passphrase_file), int(time.time())
    said = Statement(subject=subject, claim=PLACE_CLAIM, value=code, issued_at=now, expires_at=now + days * DAY_S)
    write_signed(out, seal(said, key))
    _print(out, as_json)


@attest.command(epilog=examples("joule attest revoke berlin.statement --key auditor --out taken-back.list"))
@file_argument
@configured(ClientConfig, only=("key", "data_dir"))
@out_option
@days_option
@passphrase_option
@json_option
def revoke(config: ClientConfig, file: Path, out: Path, days: int, passphrase_file: Path | None, as_json: bool) -> None:
    """Take back the statement in FILE, by a list that those who believe you obey (--deny-list).

    A list that is there already is signed anew, with this line more. Statements that nobody took back count until they
    expire, so sign for days rather than years.
    """
    from protocol.identity.ids import keccak256
    from protocol.policy.denials import Denial, DenialKind

    sealed = read_signed(file)
    found = _read(sealed)
    key = unlocked(config, passphrase_file)
    if found.kind != "statement" or found.signer != key.address:
        raise ConfigurationError(f"{file} is no statement that this key has signed", hint="choose the key with --key")
    entry = Denial(what=DenialKind.STATEMENT, value=keccak256(sealed).hex())
    _sign_list(out, key, [entry], name="taken back", days=days)
    _print(out, as_json)


@attest.command(
    epilog=examples(
        "joule attest deny --name 'export control' --place IR --hardware cluster --key office --out export.list"
    )
)
@configured(ClientConfig, only=("key", "data_dir"))
@out_option
@click.option("--name", default="denied", show_default=True, metavar="TEXT", help="For people; of a new list.")
@click.option("--operator", "operators", multiple=True, metavar="ADDRESS", help="A provider, by its address.")
@click.option("--place", "places", multiple=True, metavar="CODE", help="A country, a part of one, or a bloc.")
@click.option("--hardware", multiple=True, metavar="WORD", help="A category of hardware, or a device's name.")
@click.option(
    "--effective-in-days", type=click.IntRange(0, 3_660), default=0, show_default=True, metavar="DAYS",
    help="When it begins to hold.",
)  # fmt: skip
@days_option
@passphrase_option
@json_option
def deny(
    config: ClientConfig,
    out: Path,
    name: str,
    operators: tuple[str, ...],
    places: tuple[str, ...],
    hardware: tuple[str, ...],
    effective_in_days: int,
    days: int,
    passphrase_file: Path | None,
    as_json: bool,
) -> None:
    """Sign a list of operators, places and hardware that whoever obeys it (--deny-list) does not use.

    A list that is there already is signed anew, with these lines more.
    """
    from protocol.policy.denials import Denial, DenialKind

    try:
        entries = [
            *(Denial(what=DenialKind.OPERATOR, value=each.lower()) for each in operators),
            *(Denial(what=DenialKind.PLACE, value=each.upper()) for each in places),
            *(Denial(what=DenialKind.HARDWARE, value=each) for each in hardware),
        ]
    except InvalidError as error:
        raise ConfigurationError(error.message) from None
    key = unlocked(config, passphrase_file)
    _sign_list(out, key, entries, name=name, days=days, begins_s=effective_in_days * DAY_S)
    _print(out, as_json)


@attest.command(epilog=examples("joule attest show berlin.statement"))
@file_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what a signed statement or list says, and who has signed it."""
    _print(file, as_json)


def _sign_list(
    out: Path, key: SigningKey, entries: Sequence[Denial], *, name: str, days: int, begins_s: int = 0
) -> None:
    from protocol.identity.signing import seal
    from protocol.policy.denials import MAX_DENIALS, Denials

    now = int(time.time())
    old = _own_list(out, key)
    every = tuple(dict.fromkeys((*(() if old is None else old.entries), *entries)))
    if len(every) > MAX_DENIALS:
        raise ConfigurationError(f"a list has at most {MAX_DENIALS} lines", hint="begin another one")
    made = Denials(
        name=name if old is None else old.name,
        issued_at=now,
        effective_from=now + begins_s if old is None else old.effective_from,
        expires_at=now + begins_s + days * DAY_S,
        entries=every,
    )
    write_signed(out, seal(made, key))


def _own_list(out: Path, key: SigningKey) -> Denials | None:
    """The list in a file, which this key must have signed; None where there is no file."""
    from protocol.policy.denials import open_denials

    if not out.exists():
        return None
    try:
        found = open_denials(read_signed(out))
    except PeerError:
        raise LocalError(f"{out} exists already, and is no list", code="exists", hint="choose another name") from None
    if found.issuer != key.address:
        raise LocalError(f"{out} is a list of somebody else", code="exists", hint="choose another name")
    return found.denials


def _require_absent(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise LocalError(f"{out} exists already", code="exists", hint="choose another name, or move it away")


def _read(sealed: bytes) -> Signed:
    from protocol.identity.ids import checksum_address, keccak256
    from protocol.identity.signing import address_of_public_key, open_envelope
    from protocol.market.offer import Statement
    from protocol.policy.denials import Denials, open_denials

    opened, signer = open_envelope(sealed, Statement, Denials)
    if isinstance(opened, Statement):
        kind, about = "statement", checksum_address(address_of_public_key(opened.subject))
        says, begins = [f"{opened.claim} {opened.value}"], opened.issued_at
        issued, ends = opened.issued_at, opened.expires_at
    else:
        denials = open_denials(sealed).denials
        kind, about, begins = "list", denials.name, denials.effective_from
        says = [f"{each.what} {each.value}" for each in denials.entries]
        issued, ends = denials.issued_at, denials.expires_at
    return Signed(
        kind=kind,
        signer=signer,
        about=about,
        says=tuple(says),
        issued_at=issued,
        effective_from=begins,
        expires_at=ends,
        hash=keccak256(sealed),
    )


def _print(file: Path, as_json: bool) -> None:
    found = _read(read_signed(file))
    if as_json:
        print_json(found)
        return
    shown = plain(found)
    shown |= {name: _day(shown[name]) for name in ("issued_at", "effective_from", "expires_at")}
    shown["says"] = ", ".join(found.says) or "nothing"
    print_facts({"file": str(file), **{name.replace("_", " "): str(value) for name, value in shown.items()}})


def _day(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
