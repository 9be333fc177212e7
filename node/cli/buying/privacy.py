"""`joule run --explain-privacy`: who would see what, told before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.app.models.prompt import Prompt
from node.cli.terminal.output import print_json, print_table, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig

if TYPE_CHECKING:
    from node.app.buying.privacy import LegSees, PrivacyTold

__all__ = ["explain_privacy", "show"]

USUAL_PROMPT = 100
"""Tokens of a prompt that is not there."""


def explain_privacy(config: ClientConfig, asked: Prompt | None, model: str | None, *, as_json: bool) -> int:
    """Look for a route as a job would, and tell what each leg of it is handed; the exit status."""
    found, status = run_job(_find(config, asked, model))
    if as_json:
        print_json(found)
    else:
        show(found)
    return status


async def _find(config: ClientConfig, asked: Prompt | None, model: str | None) -> PrivacyTold:
    import asyncio

    from node.app.buying.client import open_client
    from node.app.buying.privacy import privacy_of
    from node.app.buying.request import Request
    from node.app.models.leaks import known_leaks
    from protocol.identity.ids import parse_address

    async with open_client(config, None, tell(config, err=True)) as client:
        manifest = await client.model(model)
        ids = [0] * USUAL_PROMPT
        if asked is not None:
            ids = await asyncio.to_thread((await client.text(manifest)).prompt_ids, asked)
        _, route, _ = await client.route(Request(prompt=tuple(ids), model=manifest.root.hex()))
        return privacy_of(
            manifest,
            route,
            known_leaks(manifest.root, config.data_dir),
            trusted=[parse_address(each) for each in config.trusted_ends],
            end_blocks=config.end_blocks,
        )


def show(found: PrivacyTold) -> None:
    """Print it for people."""
    click.echo("Nothing was sent. A job like this one would be seen so:\n")
    print_table(
        ("leg", "blocks", "provider", "trusted", "the prompt", "the answer", "told from rows"),
        [
            [
                str(number),
                leg.blocks,
                leg.provider,
                "yes" if leg.trusted else "no",
                leg.prompt,
                leg.answer,
                "-" if leg.cut is None else _told(leg),
            ]
            for number, leg in enumerate(found.legs)
        ],
    )
    click.echo()
    for line in _lines(found):
        click.echo(line)


def _told(leg: LegSees) -> str:
    if leg.leaks is None:
        return "not measured"
    best = max(leg.leaks.attacks, key=lambda each: each.share_ppm)
    shares = ", ".join(f"{each.attack} {each.share_ppm / 10_000:.1f} %" for each in leg.leaks.attacks)
    return f"{shares} of {best.of} tokens"


def _lines(found: PrivacyTold) -> list[str]:
    ends, depth = found.trusted_ends, found.end_blocks
    which = "the first and the last block" if depth == 1 else f"the first {depth} and the last {depth} blocks"
    lines = [
        f"- {which[0].upper()}{which[1:]}: {'only ' + ', '.join(ends) if ends else 'whoever offers them'}"
        + ("." if ends else "; --trusted-end names who may.")
    ]
    if any(leg.cut is not None for leg in found.legs):
        lines.append("- Rows of activations are no secret: what attacks told of a text by them stands above.")
        lines.append(
            f"  {found.model} was not measured here: `joule model leaks DIR` does it, where the model lies."
            if found.chance_ppm is None
            else f"  Always saying the commonest token tells {found.chance_ppm / 10_000:.1f} %."
        )
    return [
        *lines,
        "- Whoever takes over from a leg is handed the same as it was.",
        "- The ledger sees who pays whom how much and when, so how many tokens; no text, no token ids, no rows.",
        "- All of it travels encrypted; your receipt holds prompt and answer, and stays here.",
    ]
