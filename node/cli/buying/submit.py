"""`joule submit`: many prompts from a file, each when it is cheap; and the same at once for `joule run --input`."""

from __future__ import annotations

import dataclasses
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.terminal.boundary import FAILED
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import money, print_facts, print_json, tell
from node.cli.terminal.running import run_job
from node.config import ClientConfig
from node.screen import screen_line
from protocol.errors import ConfigurationError

if TYPE_CHECKING:
    from node.app.buying.batch import Answer, Item
    from node.app.buying.client import Client
    from node.app.buying.waiting import CheapHours
    from node.events import Events
    from protocol.identity.ids import ModelManifest
    from protocol.identity.signing import SigningKey
    from protocol.market.batching import Start

__all__ = ["Batched", "Wish", "run_file", "submit"]

UNITS = {"m": 60, "h": 3_600, "d": 86_400}
MOST_DEADLINE_S = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched:
    """What came of a file of prompts, in all."""

    output: str
    """The file of answers: an object on each line."""
    prompts: int
    """In the file."""
    answered: int
    """Whole answers, those of earlier runs included."""
    failed: int
    """Prompts that have no whole answer; another run asks them again."""
    tokens_in: int
    """Prompt tokens of this run's answers; what follows is of this run, too."""
    tokens_out: int
    """Generated tokens."""
    paid_micro: int
    """Micro-units to providers."""
    fees_micro: int
    """Micro-units to the ledger."""
    per_million_micro: int | None
    """Micro-units paid to providers for a million tokens, prompt and generated together; null without tokens."""
    per_petaflop_day_micro: int | None
    """The same for 10^15 operations a second over a day, at two operations for each weight and token, the weights
    counted by the size of the model's files at two bytes each."""
    saved_micro: int | None
    """Micro-units that it cost less than at the prices of the beginning; null where it did not wait for prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a file is to be answered."""

    input: Path
    output: Path
    model: str | None
    at_once: int
    deadline_s: int | None
    """None to begin now."""
    carbon_micro_per_ton: int = 0
    as_json: bool = False


@click.command(
    epilog=examples(
        "joule submit prompts.jsonl --deadline 6h",
        "joule submit prompts.jsonl --deadline 2d --carbon-price 80 --at-once 4 --output answers.jsonl",
    )
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.jsonl")
@configured(ClientConfig)
@click.option("--deadline", required=True, metavar="TIME", help="When all has to be answered: 90m, 6h, 2d.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where answers go; those that are there already are not asked for again.  [default: FILE.answers.jsonl]",
)
@click.option("--model", metavar="NAME|ROOT", help="The model to use; needed where several are on offer.")
@click.option(
    "--at-once", type=click.IntRange(1, 64), default=1, show_default=True, help="Prompts that are asked together."
)
@passphrase_option
@json_option
def submit(
    config: ClientConfig,
    file: Path,
    deadline: str,
    output: Path | None,
    model: str | None,
    at_once: int,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Answer the prompts of a file, each when it is cheap: by the offers' forecasts, and by the deadline at the latest.

    Each line of FILE is an object with ``prompt`` or ``messages``, and perhaps ``id``, ``system``, ``raw`` and
    ``max_tokens``; each answer is a line of the output. It runs until all are answered: stopped or killed, it goes on
    where it was when it is started again, and pays for nothing twice. At the end it says what was saved against the
    prices of the beginning. The exit status is 1 where a prompt has no whole answer.
    """
    patient = dataclasses.replace(config, latency_class="batch")
    wish = Wish(
        input=file,
        output=output or file.with_name(f"{file.stem}.answers.jsonl"),
        model=model,
        at_once=at_once,
        deadline_s=_seconds(deadline),
        carbon_micro_per_ton=config.carbon_price_micro,
        as_json=as_json,
    )
    return run_file(patient, wish, passphrase_file)


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([mhd])", text.strip().lower())
    seconds = 0 if match is None else int(match[1]) * UNITS[match[2]]
    if not 0 < seconds <= MOST_DEADLINE_S:
        raise ConfigurationError(f"--deadline: {text!r} is no time", hint="write minutes, hours or days: 90m, 6h, 2d")
    return seconds


def run_file(config: ClientConfig, wish: Wish, passphrase_file: Path | None) -> int:
    """Answer a file of prompts; the exit status."""
    from node.app.buying.batch import answers_in, load_items

    items = load_items(wish.input)
    done = {number for number, answer in answers_in(wish.output, items).items() if answer.error is None}
    left = [item for item in items if item.number not in done]
    key = unlocked(config, passphrase_file)
    answers: list[Answer] = []
    (saved, weights), status = run_job(_run(config, key, wish, left, answers, tell(config, err=True)))
    found = _summary(wish, len(items), len(done), answers, saved, weights)
    if wish.as_json:
        print_json(found)
    else:
        _show(found)
    return status or (FAILED if found.failed else 0)


async def _run(
    config: ClientConfig, key: SigningKey, wish: Wish, items: list[Item], answers: list[Answer], events: Events
) -> tuple[int | None, int]:
    """What was saved, and how many weights the model has."""
    from node.app.buying.batch import Batch
    from node.app.buying.client import open_client
    from protocol.market.batching import weights_of

    if not items:
        return None, 0
    async with open_client(config, key, events) as client:
        await client.require_ready()
        manifest = await client.model(wish.model)
        await client.text(manifest)  # a model that cannot be asked in text is said before anything is waited for
        hours = _hours(client, manifest, wish, items, answers)

        def told(answer: Answer) -> None:
            answers.append(answer)
            if hours is not None:
                hours.count(answer)
            state = "answered" if answer.error is None else f"failed: {answer.error['message']}"
            _say(f"{len(answers)} of {len(items)}: line {answer.number} {screen_line(state)}")

        before = _at_once if hours is None else hours.wait
        await Batch(client, manifest, wish.output, before, told).run(items, at_once=wish.at_once)
    return None if hours is None else hours.saved_micro, weights_of(manifest)


def _say(text: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {text}", err=True)


async def _at_once() -> None:
    """Nothing is waited for."""


def _hours(
    client: Client, manifest: ModelManifest, wish: Wish, items: list[Item], answers: list[Answer]
) -> CheapHours | None:
    from node.app.buying.waiting import CheapHours
    from protocol.market.batching import petaflop_day, weights_of

    if wish.deadline_s is None:
        return None
    weights, said = weights_of(manifest), [-1]

    def told(start: Start) -> None:
        if start.hour == said[0]:
            return
        said[0] = start.hour
        now = "nobody serves all of it now" if start.now is None else f"now {_quote(start.now.price, weights)}"
        then = "" if start.then is None or start.hour == 0 else f", then {_quote(start.then.price, weights)}"
        when = "begins" if start.hour == 0 else f"waits for {_clock(start.hour)}"
        late = " (no time is left to wait for less)" if start.late else ""
        _say(f"{when}: {now}{then}{late}")

    def _quote(price: int, weights: int) -> str:
        day = petaflop_day(price, weights)
        per_day = "" if day is None else f", about ${day / 1e6:.4g} per petaFLOP-day"
        return f"${money(price)} per 1M tokens{per_day}"

    def tokens() -> int:
        left = items[len(answers) :]
        return sum(item.most or client.config.max_tokens for item in left)

    return CheapHours(client, manifest, int(time.time()) + wish.deadline_s, wish.carbon_micro_per_ton, tokens, told)


def _clock(hours: int) -> str:
    """The beginning of an hour from now, local time."""
    return time.strftime("%a %H:00", time.localtime(time.time() + hours * UNITS["h"]))


def _summary(wish: Wish, prompts: int, done: int, answers: list[Answer], saved: int | None, weights: int) -> Batched:
    from protocol.market.batching import petaflop_day

    tokens_in, tokens_out = (sum(getattr(each, name) for each in answers) for name in ("tokens_in", "tokens_out"))
    paid = sum(each.paid_micro or 0 for each in answers)
    tokens = tokens_in + tokens_out
    per_million = None if not tokens else paid * 1_000_000 // tokens
    answered = done + sum(each.error is None for each in answers)
    return Batched(
        output=str(wish.output),
        prompts=prompts,
        answered=answered,
        failed=prompts - answered,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        paid_micro=paid,
        fees_micro=sum(each.fees_micro or 0 for each in answers),
        per_million_micro=per_million,
        per_petaflop_day_micro=None if per_million is None else petaflop_day(per_million, weights),
        saved_micro=saved,
    )


def _show(found: Batched) -> None:
    facts = {
        "answers": f"{found.answered} of {found.prompts} in {found.output}",
        "tokens": f"{found.tokens_in} in, {found.tokens_out} out in this run",
        "paid": f"${money(found.paid_micro)} to providers, ${money(found.fees_micro)} in ledger fees",
    }
    if found.per_million_micro is not None:
        day = found.per_petaflop_day_micro
        per_day = "" if day is None else f"; about ${day / 1e6:.4g} per petaFLOP-day"
        facts["that is"] = f"${money(found.per_million_micro)} per 1M tokens{per_day}"
    if found.saved_micro is not None:
        facts["saved"] = f"${money(found.saved_micro)} against the prices of the beginning"
    print_facts(facts)
