"""`joule ledger accuse`: have the stake of who has signed two things that contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.accounts.money import ACCOUNT
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import money, print_json, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from protocol.identity.ids import checksum_address

if TYPE_CHECKING:
    from node.app.buying.accusing import Conviction
    from protocol.identity.signing import SigningKey
    from protocol.log.fork import ForkProof
    from protocol.receipts.double_receipt import DoubleReceipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Convicted:
    """What a penalty has moved."""

    entry: str
    """The ledger entry, or the transaction, that says so."""
    accused: bytes
    """Who has lost all that it had at stake."""
    reward: int
    """Micro-units that you were given."""
    burned: int
    """Micro-units that nobody has any more."""


@click.command(
    epilog=examples(
        "joule ledger accuse ledger.fork.json", "joule ledger accuse 5f0c27a1b3d49e68-leg1-window4.double.json"
    )
)
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def accuse(config: ClientConfig, file: Path, passphrase_file: Path | None, as_json: bool) -> int:
    """Convict who has signed two things that contradict each other, where it has money at stake.

    FILE is what a client has kept of a leg that signed two receipts for one window, for a ledger or a contract; or what
    it or a node has kept of a ledger's operator that signed two histories, where the two checkpoints have one size and
    the operator's own signature: for that ledger, or any other venue where he has a stake, such as a contract. Half of
    the stake is yours, the rest nobody's.
    """
    from node.app.buying.accusing import read_proof

    proof = read_proof(file)
    key = unlocked(config, passphrase_file)
    done, status = run_job(_accuse(config, key, proof))
    if as_json:
        print_json(Convicted(entry=done.place, accused=done.accused, reward=done.reward, burned=done.burned))
    else:
        said = f"{checksum_address(done.accused)} has lost its stake"
        click.echo(f"{said}: ${money(done.reward)} to you, ${money(done.burned)} to nobody (entry {done.place})")
    return status


async def _accuse(config: ClientConfig, key: SigningKey, proof: ForkProof | DoubleReceipt) -> Conviction:
    from node.app.buying.accusing import accuse as bring
    from node.app.buying.client import open_client

    async with open_client(config, key, tell(config, err=True)) as client:
        return await bring(client, proof)
