"""`joule run`: one job, from route to receipt."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.app.models.prompt import MAX_PROMPT_BYTES, Prompt, load_messages
from node.cli.buying.privacy import explain_privacy
from node.cli.buying.submit import Wish, run_file
from node.cli.terminal.boundary import FAILED
from node.cli.terminal.options import configured, examples, json_option, passphrase_option, unlocked
from node.cli.terminal.output import print_json, tell
from node.cli.terminal.running import run_job
from node.cli.terminal.streaming import AnswerStream
from node.config import ClientConfig
from protocol.errors import ConfigurationError, LocalError
from protocol.session.logprobs import MAX_TOP

if TYPE_CHECKING:
    from node.app.buying.report import JobReport
    from node.events import Events
    from protocol.identity.signing import SigningKey


@click.command(
    epilog=examples(
        'joule run "Tell me a story."',
        'joule run "What is 17 + 25?" --max-tokens 20 --allow EU --max-price-out 2 --receipt sum.json',
        'joule run "Why is the sky blue?" --system "Answer in one sentence."',
        "joule run --messages conversation.json",
        'joule run "Tell me of a drum." --json-schema story.schema.json',
        "echo 'Tell me a story about a drum.' | joule run - --json",
        "joule run --resume sum.unfinished.json",
        "joule run --input prompts.jsonl --output answers.jsonl --at-once 4",
        "joule run --explain-privacy --trusted-end 0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
    )
)
@click.argument("prompt", metavar="[PROMPT]", required=False)
@configured(ClientConfig)
@click.option("--model", metavar="NAME|ROOT", help="The model to use; needed where several are on offer.")
@click.option("--raw", is_flag=True, help="Send PROMPT as it is, without the model's chat template.")
@click.option("--system", metavar="TEXT", help="Tell a chat model how to answer.")
@click.option(
    "--logprobs",
    type=click.IntRange(0, MAX_TOP),
    metavar="INTEGER",
    help=f"Tell each token's log probability, and so many of the likeliest in its place (0 to {MAX_TOP}).",
)
@click.option(
    "--messages",
    "messages_file",
    metavar="FILE",
    help='Ask with a whole conversation instead of PROMPT: a JSON list of {"role": ..., "content": ...}; '
    "roles are system, user and assistant. - reads it from standard input.",
)
@click.option(
    "--json-schema",
    "schema_file",
    metavar="FILE",
    help="Hold the answer to a JSON Schema: it is JSON that keeps to it, or is cut off.",
)
@click.option(
    "--grammar",
    "grammar_file",
    metavar="FILE",
    help="Hold the answer to a grammar in Lark's notation, as llguidance reads it.",
)
@click.option(
    "--resume",
    "unfinished_file",
    metavar="FILE",
    help="Go on with an answer that broke off, from the FILE that its run named, instead of asking PROMPT.",
)
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.jsonl",
    help="Ask the prompts of a file instead of PROMPT, an object on each line, as `joule submit` does; and now.",
)
@click.option(
    "--output",
    "output_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the answers of --input go, a line each; those that are there are not asked for again.  "
    "[default: FILE.answers.jsonl]",
)
@click.option("--at-once", type=click.IntRange(1, 64), default=1, help="Prompts of --input that are asked together.")
@click.option(
    "--receipt",
    "receipt_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to keep the receipt; a new file.  [default: a new file among the receipts in the data directory]",
)
@click.option(
    "--explain-privacy",
    "explains_privacy",
    is_flag=True,
    help="Send nothing: tell which leg would see what of the prompt and the answer.",
)
@click.option("--verbose", "-v", is_flag=True, help="Tell each step on stderr: --log-level info.")
@passphrase_option
@json_option
def run(
    config: ClientConfig,
    prompt: str | None,
    model: str | None,
    raw: bool,
    system: str | None,
    logprobs: int | None,
    messages_file: str | None,
    schema_file: str | None,
    grammar_file: str | None,
    unfinished_file: str | None,
    input_file: Path | None,
    output_file: Path | None,
    at_once: int,
    receipt_file: Path | None,
    explains_privacy: bool,
    verbose: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Run a job: choose a route, open a funded session, stream the answer, pay for it, and keep the receipt.

    PROMPT is what to ask; - reads it from standard input. A model with a chat template is asked through it; another
    one goes on from the text. The answer goes to stdout, the report to stderr; with --json there is only the report,
    on stdout. The exit status is 1 where the answer is not complete, or not settled; one that was healed on its way,
    for which --standbys reserves nodes, is complete. One that breaks off is gone on with over other providers, at once
    where there are any, else with --resume.
    """
    from node.app.buying.receipts import new_receipt_file

    if explains_privacy:
        _require_alone("--explain-privacy", resume=unfinished_file, input=input_file, receipt=receipt_file)
        asks = prompt is not None or messages_file is not None
        shown = _prompt(prompt, raw=raw, system=system, messages_file=messages_file) if asks else None
        return explain_privacy(config, shown, model, as_json=as_json)
    held = {"json-schema": schema_file, "grammar": grammar_file}
    if input_file is not None:
        others = {"PROMPT": prompt, "raw": raw, "system": system, "messages": messages_file, "resume": unfinished_file}
        others |= held
        _require_alone("--input", **others, logprobs=logprobs is not None, receipt=receipt_file)
        output = output_file or input_file.with_name(f"{input_file.stem}.answers.jsonl")
        wish = Wish(input=input_file, output=output, model=model, at_once=at_once, deadline_s=None, as_json=as_json)
        return run_file(config, wish, passphrase_file)
    asked: Prompt | bytes
    if unfinished_file is not None:
        others = {"PROMPT": prompt, "raw": raw, "system": system, "messages": messages_file, "model": model}
        _require_alone("--resume", **others, **held, logprobs=logprobs is not None)
        asked = _content(unfinished_file)
    else:
        asked = _prompt(prompt, raw=raw, system=system, messages_file=messages_file)
    grammar = _grammar(schema_file, grammar_file)
    file = receipt_file or new_receipt_file(config.data_dir / "receipts")
    _require_absent(file)
    key = unlocked(config, passphrase_file)
    told = dataclasses.replace(config, log_level="info") if verbose else config
    stream = AnswerStream()
    events = tell(told, as_json=as_json, err=True, before=stream.leave_line)
    report, status = run_job(
        _run(config, key, asked, model, logprobs, grammar, file, events, _ignore if as_json else stream.write)
    )
    if as_json:
        print_json(report)
    else:
        from node.cli.buying.report import print_report

        click.echo()
        print_report(report)
    return status or (0 if report.error is None and report.settle_error is None else FAILED)


async def _run(
    config: ClientConfig,
    key: SigningKey,
    asked: Prompt | bytes,
    model: str | None,
    logprobs: int | None,
    grammar: bytes,
    file: Path,
    events: Events,
    write: Callable[[str], None],
) -> JobReport:
    from node.app.buying.asking import Question
    from node.app.buying.client import open_client
    from node.app.buying.unfinished import load_unfinished

    async with open_client(config, key, events) as client:
        if isinstance(asked, bytes):
            question = await Question.resume(client, load_unfinished(asked), receipt_file=file)
        else:
            question = await Question.plan(
                client, asked, model=model, logprobs=logprobs, grammar=grammar, receipt_file=file
            )
        try:
            await question.answer(write)
        except asyncio.CancelledError:  # a signal: what came is paid for, and is reported like a whole answer
            if not question.paid_for:
                raise
        report, _ = await question.report()
        return report


def _require_alone(flag: str, **others: object) -> None:
    """Raises UsageError where another way to say what is asked is given, too."""
    for name, given in others.items():
        if given:
            other = name if name.isupper() else f"--{name}"
            raise click.UsageError(f"{flag} and {other} exclude each other")


def _prompt(text: str | None, *, raw: bool, system: str | None, messages_file: str | None) -> Prompt:
    """What is asked, out of the flags. Raises ConfigurationError, and UsageError for flags that contradict."""
    if messages_file is not None:
        _require_alone("--messages", PROMPT=text, system=system, raw=raw)
        return Prompt(messages=load_messages(_content(messages_file)))
    if text is None:
        raise click.UsageError("Missing argument 'PROMPT', or --messages FILE.")
    if raw and system is not None:
        raise click.UsageError(
            "--raw and --system exclude each other: only a chat template knows where a system's goes"
        )
    asked = _decoded(_content("-")) if text == "-" else text
    return Prompt(raw=asked) if raw else Prompt.question(asked, system=system)


def _grammar(schema_file: str | None, grammar_file: str | None) -> bytes:
    """What the answer is held to; empty for nothing. Raises ConfigurationError, and UsageError where both are given."""
    from node.app.buying.grammars import grammar_text, of_schema

    if schema_file is None:
        return b"" if grammar_file is None else grammar_text(_content(grammar_file))
    _require_alone("--json-schema", grammar=grammar_file)
    try:
        return of_schema(json.loads(_content(schema_file)))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{schema_file} is no JSON: {error}", code="grammar") from None


def _content(file: str) -> bytes:
    """A file's content, or standard input's for ``-``; at most one byte more than a prompt may have."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_PROMPT_BYTES + 1)
        with Path(file).open("rb") as opened:
            return opened.read(MAX_PROMPT_BYTES + 1)
    except OSError as error:
        hint = "give a file that is there, or - for standard input"
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="prompt", hint=hint) from None


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ConfigurationError("the prompt is not valid Unicode", code="prompt", hint="give it in UTF-8") from None


def _ignore(_piece: str) -> None:
    pass


def _require_absent(file: Path) -> None:
    """Raises LocalError for a file that exists: it may be the evidence of another job that was paid for."""
    if file.exists() or file.is_symlink():
        hint = "choose another name, or move it away: receipts are never overwritten"
        raise LocalError(f"{file} exists already", code="exists", hint=hint)
