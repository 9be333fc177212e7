"""The report of a job, as a person wants to read it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from node.app.buying.report import Healing, JobReport, LegReport
from node.app.buying.saying import SaidToken
from node.screen import screen_line
from protocol.units import format_micro

__all__ = ["print_report"]

_WIDTH = 100


def print_report(report: JobReport, *, proof: Sequence[str] = (), distance: Sequence[str] = ()) -> None:
    """Print it to stderr: the answer alone goes to stdout.

    Args:
        proof: more lines of what is proven, such as on a spot check.
        distance: lines on how long it took from afar.
    """
    console = Console(file=sys.stderr, highlight=False, width=None if sys.stderr.isatty() else _WIDTH)
    parts: list[RenderableType] = [
        _heading("Route"),
        _route(report),
        *_not_taken(report),
        *_healed(report),
        _heading("Served"),
        _served(report),
    ]
    if report.logprobs is not None:
        parts += [_heading("Log probabilities"), _logprobs(report.logprobs)]
    if distance:
        parts += [_heading("Over a distance"), _indented(Text("\n".join(distance)))]
    parts += [_heading("Paid"), _paid(report), _heading("Proof"), _proof(report, proof)]
    console.print(Group(*parts))
    for what, error in (("the answer is not complete", report.error), ("not settled yet", report.settle_error)):
        if error is not None:
            console.print(f"\n[bold red]{what}:[/] ", end="")
            console.print(Text(screen_line(error["message"])))
            if error["hint"]:
                console.print(Text(screen_line(error["hint"])))


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold cyan")


def _indented(part: Table | Text) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def _logprobs(said: Sequence[SaidToken]) -> Padding:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("token", "log p", "likeliest in its place"):
        table.add_column(name, justify="right" if name == "log p" else "left")
    for each in said:
        others = ", ".join(f"{_quoted(likely.text)} {likely.logprob:.3f}" for likely in each.likeliest)
        table.add_row(Text(_quoted(each.text)), f"{each.logprob:.3f}", Text(others))
    return _indented(table)


def _quoted(text: str) -> str:
    return screen_line(json.dumps(text, ensure_ascii=False))


def _route(report: JobReport) -> Padding:
    stood_by = any(leg.standby for leg in report.legs)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name, justify in (
        ("leg", "right"),
        ("blocks", "left"),
        ("where", "left"),
        ("provider", "left"),
        ("in $/1M", "right"),
        ("out $/1M", "right"),
        ("J/token", "right"),
        ("from", "left"),
        *([("served", "left")] if stood_by else []),
        ("paid $", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for index, leg in enumerate(report.legs):
        table.add_row(
            str(index),
            leg.blocks,
            leg.jurisdiction,
            _short(leg.provider),
            format_micro(leg.price_in_micro),
            format_micro(leg.price_out_micro),
            _joules_per_token(leg),
            screen_line(leg.energy_source or "unknown"),
            *([leg.served or ("stood by" if leg.standby else "nothing")] if stood_by else []),
            format_micro(leg.paid_micro),
        )
    return _indented(table)


def _not_taken(report: JobReport) -> list[Padding]:
    if not report.not_taken:
        count = sum(not leg.standby for leg in report.legs)
        if count < len(report.legs):
            return []
        return [_indented(Text(f"Chosen because it is the only way through all blocks: {count} offers, {count} legs."))]
    lines = Text("Cheapest way through all blocks. Not taken:\n")
    for each in report.not_taken[:8]:
        lines.append(
            f"  {_short(each.provider)} ({each.jurisdiction}, blocks {each.blocks}): {screen_line(each.reason)}\n"
        )
    if len(report.not_taken) > 8:
        lines.append(f"  and {len(report.not_taken) - 8} more; --json lists all\n")
    lines.rstrip()
    return [_indented(lines)]


def _healed(report: JobReport) -> list[RenderableType]:
    if not report.healed:
        return []
    lines = [line for each in report.healed for line in _healing(report, each)]
    return [_heading("Healed"), _indented(Text("\n".join(lines)))]


def _healing(report: JobReport, healed: Healing) -> list[str]:
    again = "" if healed.gone else "; the same route was made anew"
    lines = [f"after {healed.tokens} tokens: {screen_line(healed.why)}{again}"]
    known = healed.session == report.session  # of others its receipt says who they were
    for leg in healed.gone if known else ():
        left = report.legs[leg]
        paid = f"${format_micro(left.paid_micro)}"
        served = (
            f"for positions {left.served}, all that every leg had signed for" if left.served else "and served nothing"
        )
        lines.append(f"leg {leg} ({_short(left.provider)}) is paid {paid} {served}")
    for leg in healed.joined if known else ():
        taken = report.legs[leg]
        again = f": it computed {taken.replayed} positions again, for ${format_micro(taken.replayed_micro)}"
        lines.append(
            f"leg {leg} ({_short(taken.provider)}) took over blocks {taken.blocks}{again if taken.replayed else ''}"
        )
    silent = "no token came after that" if healed.silent_s is None else f"no token came for {healed.silent_s:.2f} s"
    return [*lines, f"all legs had taken up the new route after {healed.seconds:.2f} s; {silent}"]


def _drafts(report: JobReport) -> list[str]:
    if report.drafts_taken is None or report.tokens_per_pass is None:
        return []
    return [f"guessed ahead: {report.drafts_taken:.0%} right, {report.tokens_per_pass:.2f} tokens a pass"]


def _served(report: JobReport) -> Padding:
    rate = "" if report.tokens_per_second is None else f", {report.tokens_per_second:.1f} tokens/s"
    first = report.seconds_to_first_token
    waited = "" if first is None else f", the first after {first:.2f} s"
    held = f" ({report.tokens_held} of them held since before)" if report.tokens_held else ""
    energy = [leg.millijoules for leg in report.legs]
    known = [each for each in energy if each is not None]
    joules = f"{sum(known) / 1000:.2f} J" if len(known) == len(energy) else "not measured by every leg"
    lines = [
        f"{report.tokens_in} tokens in{held}, {report.tokens_out} tokens out{rate}{waited}",
        *_drafts(report),
        f"energy by the legs' signed receipts: {joules}",
        f"model {screen_line(report.model)}, {report.windows} windows, every leg's commitments met its neighbours'",
    ]
    return _indented(Text("\n".join(lines)))


def _paid(report: JobReport) -> Padding:
    tokens_in, tokens_out = report.paid_tokens
    after = "unknown" if report.balance_after_micro is None else f"${format_micro(report.balance_after_micro)}"
    count = sum(not leg.standby or leg.paid_micro > 0 for leg in report.legs)
    legs = f"{count} legs" if count > 1 else "1 leg"
    lines = [
        f"${format_micro(report.paid_micro)} by one voucher to {legs} for {tokens_in} + {tokens_out} tokens",
        _fees(report),
        f"balance ${format_micro(report.balance_before_micro)} before, {after} after",
    ]
    if report.sessions > 1:
        lines.append(f"the answer took {report.sessions} sessions: where one broke off, another went on")
    if report.attempts > report.sessions:
        spent = f"${format_micro(report.paid_before_micro)}"
        lines.append(f"attempt {report.attempts}: providers did not take the job before, which cost {spent}")
    if report.claimed_micro:
        lines.append(f"${format_micro(report.claimed_micro)} more may be redeemed by legs that had computed ahead")
    if report.held_until is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(report.held_until))
        lines.append(f"${format_micro(report.held_micro)} is still held; it can be had back from {when}")
    return _indented(Text("\n".join(lines)))


def _fees(report: JobReport) -> str:
    on_chain = any(place.startswith("0x") for place in report.places)
    return "gas, in the chain's own coin" if on_chain else f"${format_micro(report.fees_micro)} in ledger fees"


def _proof(report: JobReport, more: Sequence[str]) -> Padding:
    verified = "yes" if report.verified else "no"
    size = ""
    if report.log_size is not None:
        size = f" (inclusion proofs: {report.proof_bytes} bytes, in a log of {report.log_size} entries)"
    elif report.verified:
        shown = f"trie proofs: {report.proof_bytes} bytes; " if report.proof_bytes else ""
        what = "their blocks are the chain's" if report.proof_bytes else "the chain holds its transactions"
        size = f" ({shown}that {what} is taken on trust)"
    lines = [f"receipt verified offline: {verified}{size}"]
    if report.receipt_file is not None:
        lines.append(f"receipt kept in {report.receipt_file}")
    lines += [f"receipt of what came before it broke off kept in {file}" for file in report.earlier_receipt_files]
    return _indented(Text("\n".join([*lines, *more])))


def _joules_per_token(leg: LegReport) -> str:
    return "?" if leg.millijoules_per_token is None else f"{leg.millijoules_per_token / 1000:.4f}"


def _short(address: str) -> str:
    return f"{address[:8]}..{address[-4:]}"
