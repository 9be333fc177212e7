"""`joule ledger accuse`: have an operator's stake for two checkpoints that contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.money import ACCOUNT
from node.cli.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.output import money, print_json, tell
from node.cli.running import run_job
from node.config import ClientConfig
from protocol.errors import ConfigurationError
from protocol.ids import checksum_address

if TYPE_CHECKING:
    from node.ledger import Proven
    from protocol.fork import ForkProof
    from protocol.ids import Address
    from protocol.signing import SigningKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Convicted:
    """What a penalty has moved."""

    entry: int
    """The ledger entry that says so."""
    accused: bytes
    """Who has lost all that it had at stake."""
    reward: int
    """Micro-units that you were given."""
    burned: int
    """Micro-units that nobody has any more."""


@click.command(epilog=examples("joule ledger accuse ledger.fork.json"))
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@configured(ClientConfig, only=ACCOUNT)
@passphrase_option
@json_option
def accuse(config: ClientConfig, file: Path, passphrase_file: Path | None, as_json: bool) -> int:
    """Convict a ledger's operator, on that ledger, by a proof that it has signed two histories.

    FILE is what a node or a client has kept, and the two checkpoints in it have one size and the operator's own
    signature. Half of the stake is yours, the rest nobody's.
    """
    from node.ledger.forks import read_fork

    proof = read_fork(file)
    key = unlocked(config, passphrase_file)
    (entry, accused, reward), status = run_job(_accuse(config, key, proof))
    burned = entry.entry.burned
    if as_json:
        print_json(Convicted(entry=entry.index, accused=accused, reward=reward, burned=burned))
    else:
        said = f"{checksum_address(accused)} has lost its stake: ${money(reward)} to you, ${money(burned)} to nobody"
        click.echo(f"{said} (ledger entry {entry.index})")
    return status


async def _accuse(config: ClientConfig, key: SigningKey, proof: ForkProof) -> tuple[Proven, Address, int]:
    from node.app.client import open_client
    from protocol.accusing import accuse_operator_of
    from protocol.checkpoint import Operator

    async with open_client(config, key, tell(config, err=True)) as client:
        log = client.log("accusing an operator")
        rules = await log.connect()
        if proof.verifier_key != rules.verifier_key:
            raise ConfigurationError(
                "the proof is against another ledger", hint=f"name it with --ledger: its key is {proof.verifier_key}"
            )
        action = accuse_operator_of(proof, Operator(log.domain, rules.operator))
        staked = await client.balance(rules.operator)
        entry = await log.submit(action, key)
        return entry, rules.operator, (staked.bond + staked.unbonding) // 2
