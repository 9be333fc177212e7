"""`joule ledger`: run an embedded ledger, or verify one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from node.cli.ledgers.accusing import accuse
from node.cli.ledgers.copies import export, tail
from node.cli.ledgers.keeping import keeping_commands
from node.cli.ledgers.notices import notice
from node.cli.terminal.boundary import FAILED
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import money, print_facts, print_json, tell
from node.cli.terminal.progress import counted
from node.cli.terminal.running import serve, survive_hangups
from node.config import LedgerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The first entry that breaks a rule."""

    entry: int | None
    """Its index; null where the fault is not that of one entry."""
    reason: str
    """What is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What replaying a whole ledger found."""

    sound: bool
    """Whether every entry follows the rules, and the signed checkpoint fits."""
    entries: int
    """How many were verified."""
    fault: Fault | None
    """Null where there is none."""
    verifier_key: str | None
    """That the ledger registers, or that was asked for."""
    size: int | None
    """Entries under the newest checkpoint."""
    root: bytes | None
    """Of that checkpoint, 32 bytes."""
    deposited: int
    """Micro-units that came in, over all entries."""
    withdrawn: int
    """Micro-units that went out."""
    fees: int
    """Micro-units that operations cost those who submitted them; the operator has them."""
    held: int
    """Micro-units that are on the books."""
    burned: int
    """Micro-units that penalties took from everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoHistories:
    """Whether a file proves that a ledger's operator has signed two histories."""

    proven: bool
    """Whether it does."""
    verifier_key: str
    """Of the ledger that it is against."""
    older: str | None
    """The signed checkpoint of fewer entries; null where nothing is proven."""
    newer: str | None
    """The one that contradicts it."""
    reason: str | None
    """Why it proves nothing; null where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A proof that a person has reviewed."""

    file: str
    """Where it is kept now."""


@click.group(epilog=examples("joule ledger run --faucet-limit 100", "joule ledger verify http://127.0.0.1:8645"))
def ledger() -> None:
    """The embedded ledger: a signed, verifiable log of who paid whom."""


ledger.add_command(notice)
ledger.add_command(accuse)


@ledger.command(
    epilog=examples("joule ledger run --key operator --faucet-limit 100", "joule ledger run --config l.toml")
)
@configured(LedgerConfig, again=True)
@passphrase_option
@click.option("--accept-clock", is_flag=True, help="The clock is right, though the last entry is over 30 days old.")
@json_option
def run(
    config: LedgerConfig,
    read: Callable[[], LedgerConfig],
    passphrase_file: Path | None,
    accept_clock: bool,
    as_json: bool,
) -> None:
    """Run a ledger until it is stopped; the first run begins it.

    It serves HTTP for jobs and readers, and is the peer through which nodes and clients find each other.
    """
    from node.app.daemons.ledger import run_ledger
    from node.app.process.reload import Reload

    survive_hangups()
    events = tell(config, as_json=as_json)
    reload = Reload(config, read, events)
    reload.follow(events.follow)
    key = unlocked(config, passphrase_file)
    serve(run_ledger(config, key, events, accept_clock=accept_clock), events=events, reload=reload)


@ledger.command(epilog=examples("joule ledger verify http://127.0.0.1:8645", "joule ledger verify ledger.sqlite3"))
@click.argument("target", metavar="URL|DATABASE|FOLDER")
@click.option("--verifier-key", metavar="VKEY", help="The key that must have signed it; else the one it registers.")
@click.option(
    "--processes", type=click.IntRange(1, 64), help="How many check signatures; as many as there are cores, at most 4."
)
@click.option(
    "--witness",
    "witnesses",
    metavar="VKEY",
    multiple=True,
    help="A witness that must have cosigned the checkpoint at the URL; of one that signs with two keys, both.",
)
@json_option
def verify(
    target: str, verifier_key: str | None, processes: int | None, witnesses: tuple[str, ...], as_json: bool
) -> int:
    """Replay a whole ledger under the rules, and name the first bad entry.

    TARGET is a ledger's URL, its SQLite file, its database URL, or a folder that it was exported to. The exit status is
    1 where anything is wrong.
    """
    from node.app.daemons.ledger import verify_ledger

    progress = counted("entries")
    found = asyncio.run(
        verify_ledger(target, verifier_key=verifier_key, witnesses=witnesses, progress=progress, processes=processes)
    )
    sound = found.fault is None
    if as_json:
        fault = None if found.fault is None else Fault(entry=found.fault.index, reason=found.fault.reason)
        print_json(
            Replayed(
                sound=sound,
                entries=found.entries,
                fault=fault,
                verifier_key=found.verifier_key,
                size=None if found.checkpoint is None else found.checkpoint.size,
                root=None if found.checkpoint is None else found.checkpoint.root,
                deposited=found.deposited,
                withdrawn=found.withdrawn,
                fees=found.fees,
                held=found.held,
                burned=found.books.burned,
            )
        )
    else:
        print_facts(
            {
                "ledger": found.verifier_key or "unknown",
                "entries": f"{found.entries} verified" + ("" if sound else " before the fault"),
                "money": f"{money(found.deposited)} in, {money(found.withdrawn)} out, {money(found.held)} on the books",
                "fees": f"{money(found.fees)} paid to the operator",
                "penalties": f"{money(found.books.burned)} burned",
                "result": "every entry follows the rules" if sound else f"NOT SOUND: {found.fault}",
            }
        )
    return 0 if sound else FAILED


@ledger.command("verify-fork", epilog=examples("joule ledger verify-fork ledger.fork.json"))
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@json_option
def verify_fork(file: Path, as_json: bool) -> int:
    """Check a proof that a ledger's operator has signed two histories.

    It needs nothing but FILE, which a node or a client has kept; hold the key that it names against the ledger's.
    The exit status is 1 where it proves nothing.
    """
    from node.ledger.forks import read_fork
    from protocol.errors import PeerError
    from protocol.log.fork import check_fork

    proof = read_fork(file)
    try:
        older, newer = (str(each) for each in check_fork(proof))
        found = TwoHistories(proven=True, verifier_key=proof.verifier_key, older=older, newer=newer, reason=None)
    except PeerError as error:
        found = TwoHistories(
            proven=False, verifier_key=proof.verifier_key, older=None, newer=None, reason=error.message
        )
    if as_json:
        print_json(found)
    else:
        facts = {"ledger": found.verifier_key}
        if found.proven:
            facts |= {"signed": str(found.older), "and": str(found.newer)}
        facts["result"] = "PROVEN: these are of two histories" if found.proven else f"proves nothing: {found.reason}"
        print_facts(facts)
    return 0 if found.proven else FAILED


@ledger.command("clear-fork", epilog=examples("joule ledger clear-fork ~/.local/share/joulemesh/ledgers/x.fork.json"))
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@json_option
def clear_fork(file: Path, as_json: bool) -> None:
    """Trade again with a ledger that has signed two histories, after you have looked into it.

    FILE is the proof that stopped you, as the error names it. It is renamed, not removed: the checkpoints in it do not
    stop you again, others do. Nodes and clients take it into account at their next start.
    """
    from node.ledger.forks import set_aside

    reviewed = set_aside(file)
    if as_json:
        print_json(SetAside(file=str(reviewed)))
    else:
        print_facts({"set aside": str(reviewed)})


ledger.add_command(export)
ledger.add_command(tail)
for _command in keeping_commands("ledger", LedgerConfig):
    ledger.add_command(_command)
