"""`joule receipt`: list receipts, look into one, and verify it offline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.app.buying.kept_receipts import ListedReceipt, list_kept, read_bundle
from node.cli.buying.receipt_facts import Claims, Proven, Redacted, claims, proven
from node.cli.terminal.options import configured, examples, json_option
from node.cli.terminal.output import money, print_facts, print_json, print_table
from node.config import ClientConfig
from node.json_values import plain
from protocol.errors import ConfigurationError, DishonestError, UnwitnessedError

if TYPE_CHECKING:
    from protocol.receipts.bundle import Bundle, Verified

file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@click.group(epilog=examples("joule receipt verify story.json", "joule receipt list"))
def receipt() -> None:
    """Receipts: the evidence of a paid job."""


@receipt.command(
    epilog=examples(
        "joule receipt verify story.json",
        "joule receipt verify story.json --verifier-key VKEY",
        "joule receipt verify story.json --rpc http://127.0.0.1:8545",
        "joule receipt verify story.json --min-witnesses 2 --witnesses VKEY --witnesses VKEY",
    )
)
@file_argument
@configured(ClientConfig, only=("witnesses", "min_witnesses"))
@click.option(
    "--verifier-key",
    metavar="VKEY",
    help="The ledger's key as you know it, or evm:CHAIN_ID:CONTRACT; the receipt must be from it.",
)
@click.option("--rpc", metavar="URL", help="Of a contract: ask this node of its chain for the transactions, too.")
@click.option(
    "--block",
    "blocks",
    metavar="HASH",
    multiple=True,
    help="Of a contract: the hash of a block that you know to be the chain's; once for each block.",
)
@json_option
def verify(
    config: ClientConfig, file: Path, verifier_key: str | None, rpc: str | None, blocks: tuple[str, ...], as_json: bool
) -> None:
    """Verify a receipt without asking anyone: signatures, commitments, payment and its place in the ledger.

    It proves what the ledger with the named key took down. That this is the ledger you mean, --verifier-key makes sure.
    Where settings or flags ask for witnesses, so many of them must have cosigned the log in which the session opened.
    A receipt from a contract holds signed transactions, with proofs that their blocks hold them. That these blocks are
    the chain's only a node of it can say, or who knows their hashes: without --rpc or --block that is taken on trust.
    """
    from protocol.receipts.bundle import verify_bundle

    bundle = read_bundle(file)
    if verifier_key is not None and verifier_key != bundle.verifier_key:
        raise DishonestError(f"the receipt is from another ledger: {bundle.verifier_key}", code="other-ledger")
    verified = verify_bundle(bundle)
    confirmations = None if rpc is None else _confirmed(rpc, bundle, verified)
    known, witnesses = _known(blocks, verified), _witnessed(config, bundle)
    claimed, proved = claims(bundle), proven(verified, confirmations, blocks_known=known, witnesses=witnesses)
    if as_json:
        print_json({**plain(claimed), **plain(proved)})
        return
    print_facts(
        {
            "receipt": "verified offline: yes",
            "model": f"{bundle.manifest.name} ({bundle.manifest.root.hex()[:12]}...)",
            "tokens": f"{verified.tokens_in} in, {verified.tokens_out} out, in {len(verified.windows)} windows"
            + (", withheld: not held against what the legs signed for" if verified.withheld else ""),
            **_changes(claimed, proved),
            "paid": "  ".join(f"leg {leg}: ${money(amount)}" for leg, amount in enumerate(verified.amounts)),
            "energy": "  ".join(f"leg {leg}: {_joules(each)}" for leg, each in enumerate(verified.millijoules)),
            **_law(proved),
            "refunded": f"${money(verified.refunded)}"
            + (f", ${money(verified.held)} still held" if verified.held else ""),
            **_place(bundle.verifier_key, verified, proved),
        }
    )


@receipt.command(epilog=examples("joule receipt show story.json"))
@file_argument
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what a receipt says. This verifies nothing."""
    found = claims(read_bundle(file))
    if as_json:
        print_json(found)
        return
    facts = plain(found)
    legs = facts.pop("legs")
    del facts["reroutes"]
    shown = {name.replace("_", " "): str(value) for name, value in facts.items()}
    for index, leg in enumerate(legs):
        prices = f"${money(leg['price_in'])} in, ${money(leg['price_out'])} out per 1M"
        stood_by = "  stood by" if leg["standby"] else ""
        shown[f"leg {index}"] = f"{leg['provider']}  blocks {leg['blocks']}  {prices}{stood_by}"
    shown |= _reroutes(found)
    print_facts(shown)
    click.echo("\nnot verified; for that: joule receipt verify FILE")


@receipt.command(epilog=examples("joule receipt redact story.json shown.json"))
@file_argument
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@json_option
def redact(file: Path, out: Path, as_json: bool) -> None:
    """Copy a receipt without prompt and answer, for others to verify.

    Who was paid what for which model, where, and that neighbours agreed in every window verifies as before, by the
    hashes of the tokens that the legs signed for. Whoever guesses the tokens of a window can see by its hash that the
    guess was right: a window of one or two tokens is guessed by trying all. An audit needs the whole receipt.
    """
    from node.app.buying.receipts import keep_bundle
    from protocol.receipts.bundle import verify_bundle
    from protocol.session.messages import session_id

    bundle = read_bundle(file)
    verify_bundle(bundle)
    keep_bundle(bundle, out, text="withheld")
    if as_json:
        print_json(plain(Redacted(file=out, session=session_id(bundle.session))))
    else:
        click.echo(f"{out}: verifies, without the tokens of prompt and answer")


def _law(proved: Proven) -> dict[str, str]:
    """Where the legs stood, and whether that is what the policy asked."""
    stood = "  ".join(
        f"leg {each.leg}: {' and '.join(each.places)} ({each.evidence.replace('_', '-')}"
        + (f" by {' and '.join(each.grounds)})" if each.grounds else ")")
        for each in proved.places
    )
    found = {"places": stood}
    if proved.asks_law:
        found["law"] = "the policy admits each leg, and each hop from leg to leg"
    if proved.clients_word:
        found["client's word"] = "; ".join(proved.clients_word)
    return found


def _confirmed(rpc: str, bundle: Bundle, verified: Verified) -> int:
    from node.settlement.confirming import confirm
    from protocol.chain.contract import Contract

    if not verified.transactions:
        raise ConfigurationError("--rpc: the receipt is from a ledger, whose log it proves itself", hint="leave it out")
    return asyncio.run(confirm(rpc, Contract.parse(bundle.verifier_key), verified.transactions))


def _known(said: Sequence[str], verified: Verified) -> bool:
    """Whether all transactions are proven to be in blocks that were named. Raises DishonestError where one is not."""
    if not said:
        return False
    try:
        known = {bytes.fromhex(each.removeprefix("0x")) for each in said}
    except ValueError:
        raise ConfigurationError("--block: that is no hash", hint="give 64 hexadecimal digits") from None
    if not verified.transactions:
        raise ConfigurationError("--block: the receipt is from a ledger, which has no blocks", hint="leave it out")
    for each in verified.transactions:
        if each.proof.inclusion is None:
            raise DishonestError(
                f"the receipt does not prove that block {each.proof.block} holds its transaction",
                hint="ask a node of the chain instead: --rpc URL",
            )
        if each.proof.block_hash not in known:
            raise DishonestError(f"block {each.proof.block}, 0x{each.proof.block_hash.hex()}, is none that you know")
    return True


def _witnessed(config: ClientConfig, bundle: Bundle) -> tuple[int, ...]:
    """How many of the witnesses that settings name have cosigned each piece of evidence. Raises UnwitnessedError."""
    from node.app.settlement.witnessed import witnessed_of
    from protocol.receipts.bundle_ledger import cosignatures

    policy, evidence = witnessed_of(config).policy, (bundle.opened, bundle.settled, bundle.released)
    counts = cosignatures(evidence, bundle.verifier_key, policy.witnesses)
    if counts and counts[0] < policy.least:
        raise UnwitnessedError(
            f"{counts[0]} of the witnesses that you name have cosigned the log in which the session opened, "
            f"{policy.least} are asked for"
        )
    return counts


def _place(venue: str, verified: Verified, proved: Proven) -> dict[str, str]:
    """Where the venue's books have it, and what of that is proven."""
    if verified.checkpoint is not None:
        facts = {"ledger": f"{venue}, {verified.checkpoint.size} entries"}
        if any(proved.witnesses):
            facts["witnesses"] = f"{proved.witnesses[0]} of those named cosigned its opening"
        return {**facts, "proof": f"{verified.proof_bytes} bytes of inclusion proofs"}
    held = [f"block {each.proof.block}: 0x{each.transaction.hex()}" for each in verified.transactions]
    facts = {"contract": venue, "transactions": "  ".join(held)}
    included = all(each.included for each in proved.transactions)
    if included:
        facts["proof"] = f"these blocks hold them and did not refuse them ({verified.proof_bytes} bytes of trie proofs)"
    if proved.confirmations is not None:
        return {**facts, "chain": f"holds them, by the node that was asked, under {proved.confirmations} more blocks"}
    if proved.blocks_known:
        return {**facts, "chain": "the blocks are those that you named"}
    if not included:
        trust = "that the chain holds these transactions and did not refuse them; a node of it knows: --rpc URL"
        return {**facts, "on trust": trust}
    hashes = "  ".join(dict.fromkeys(f"0x{each.block_hash.hex()}" for each in proved.transactions))
    trust = f"that these blocks are the chain's: {hashes}; --block HASH if you know them, --rpc URL asks a node"
    return {**facts, "on trust": trust}


def _changes(claimed: Claims, proved: Proven) -> dict[str, str]:
    """Who served what, where the route has changed."""
    if not claimed.reroutes:
        return {}
    parts = []
    for each in proved.served:
        first, last = map(int, each.windows.split(":"))
        windows = f"windows {first + 1} to {last}" if last > first + 1 else f"window {last}"
        parts.append(f"leg {each.leg}: {windows}, blocks {each.blocks}")
    return {**_reroutes(claimed), "served": "  ".join(parts)}


def _reroutes(claimed: Claims) -> dict[str, str]:
    return {
        f"reroute {number}": f"from position {each.position}: "
        + ", ".join(f"leg {seat.leg} blocks {seat.blocks}" for seat in each.route)
        for number, each in enumerate(claimed.reroutes, 1)
    }


@receipt.command("list", epilog=examples("joule receipt list", "joule receipt list --json"))
@configured(ClientConfig, only=("data_dir",))
@json_option
def list_receipts(config: ClientConfig, as_json: bool) -> None:
    """List the receipts in the data directory, newest first, each verified offline.

    Those that were kept elsewhere, with `joule run --receipt FILE`, are not among them.
    """
    found = list_kept(config.data_dir)
    if as_json:
        print_json(found)
    elif found:
        print_table(("when", "model", "in", "out", "paid $", "verified", "file"), [_row(each) for each in found])
    else:
        click.echo(f"no receipts in {config.data_dir / 'receipts'}: `joule run` keeps them there")


def _row(each: ListedReceipt) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.time))
    paid = "?" if each.paid is None else money(each.paid)
    tokens = ["?" if count is None else str(count) for count in (each.tokens_in, each.tokens_out)]
    verified = "yes" if each.error is None else f"NO: {each.error['message']}"
    return [when, each.model or "?", *tokens, paid, verified, str(each.file)]


def _joules(millijoules: int | None) -> str:
    return "not measured" if millijoules is None else f"{millijoules / 1000:.3f} J"
