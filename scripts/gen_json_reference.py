"""Write docs/reference/json.md: what --json prints, from the declarations of it; --check only compares.

A command that takes --json and is not named here is an error, so that none stays undocumented.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import click

import node.events
from node.app.buying.audit import AuditReport
from node.app.buying.batch import Answer
from node.app.buying.kept_receipts import ListedReceipt
from node.app.buying.markets import Balances
from node.app.buying.planned import PlannedRoute
from node.app.buying.privacy import PrivacyTold
from node.app.buying.report import JobReport
from node.app.daemons.backups import BackedUp, Migrated, Restored
from node.app.daemons.watching import Watched
from node.app.diagnosis.status import Status
from node.app.models.leaks import ModelLeaks
from node.app.models.survey import KeptManifest, Survey
from node.app.selling.benched import BenchedModel, BenchedNode
from node.app.settlement.copies import TailedEntry
from node.app.settlement.settling import HeldSession, Settling
from node.cli.accounts.key import KeyFacts
from node.cli.accounts.money import Balance, MovedMoney, Reclaimed
from node.cli.accounts.stakes import Staked
from node.cli.buying.peers import Forgotten, RememberedPeer
from node.cli.buying.policy import PolicyMeaning
from node.cli.buying.receipt_facts import Claims, Proven, Redacted
from node.cli.buying.submit import Batched
from node.cli.completion import CompletionScript
from node.cli.entry import COMMANDS, joule
from node.cli.gateway import ShownKey
from node.cli.ledgers.accusing import Convicted
from node.cli.ledgers.contract import Contract
from node.cli.ledgers.copies import Exported
from node.cli.ledgers.ledger import Replayed, SetAside, TwoHistories
from node.cli.ledgers.notices import Announced
from node.cli.ledgers.witness import WitnessKey
from node.cli.models.catalogue import LocalModel, RemovedCatalogue, ShownCatalogue
from node.cli.models.checking import CheckedModel
from node.cli.models.drafting import MadeDraft
from node.cli.models.variants import MadeModel, ModelCard, VerifiedModel
from node.cli.page import PageReady
from node.cli.selling.anchor import AnchorLine
from node.cli.selling.attest import Signed
from node.cli.selling.doctor import Finding
from node.cli.selling.earnings import Earnings
from node.cli.selling.settling import ExportedVouchers
from node.cli.selling.setup import NodeSetUp, Unit
from node.cli.selling.tariff import TariffShown
from node.cli.terminal.boundary import Failure
from node.demo.result import DemoFindings
from node.energy.live import EnergyReport
from node.events import Event
from node.page.view import PageState
from protocol.market.market_figures import MarketFigures
from protocol.market.offer import Offer
from protocol.serving.earnings import JobRecord

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "json.md"
GENERATED = "<!-- Written by scripts/gen_json_reference.py. -->\n"


class Printed(NamedTuple):
    """What one command prints."""

    kinds: tuple[type[Any], ...]
    """Whose fields it has."""
    how: str = "An object"


PRINTED: dict[str, Printed] = {
    "key new": Printed((KeyFacts,)),
    "key show": Printed((KeyFacts,)),
    "key import": Printed((KeyFacts,)),
    "key list": Printed((KeyFacts,), "A list of objects"),
    "ledger run": Printed((), "[Events](#events), an object on each line"),
    "ledger verify": Printed((Replayed,)),
    "ledger notice": Printed((Announced,)),
    "ledger accuse": Printed((Convicted,)),
    "ledger export": Printed((Exported,)),
    "ledger backup": Printed((BackedUp,)),
    "ledger restore": Printed((Restored,)),
    "ledger migrate": Printed((Migrated,)),
    "ledger tail": Printed((TailedEntry,), "An object on each line"),
    "ledger clear-fork": Printed((SetAside,)),
    "ledger verify-fork": Printed((TwoHistories,)),
    "witness run": Printed((), "[Events](#events), an object on each line"),
    "witness key": Printed((WitnessKey,)),
    "anchor run": Printed((), "[Events](#events), an object on each line"),
    "anchor show": Printed((AnchorLine,)),
    "attest place": Printed((Signed,)),
    "attest revoke": Printed((Signed,)),
    "attest deny": Printed((Signed,)),
    "attest show": Printed((Signed,)),
    "policy show": Printed((PolicyMeaning,)),
    "model manifest": Printed((KeptManifest,)),
    "model show": Printed((Survey,)),
    "model catalogue make": Printed((ShownCatalogue,)),
    "model catalogue add": Printed((ShownCatalogue,)),
    "model catalogue remove": Printed((RemovedCatalogue,)),
    "model catalogue show": Printed((ShownCatalogue,)),
    "model quantize": Printed((MadeModel,)),
    "model prune": Printed((MadeModel,)),
    "model draft": Printed((MadeDraft,)),
    "model adapt": Printed((MadeModel,)),
    "model verify": Printed((VerifiedModel,)),
    "model check": Printed((CheckedModel,)),
    "model leaks": Printed((ModelLeaks,)),
    "model card": Printed((ModelCard,)),
    "model list": Printed((LocalModel,), "A list of objects, in order of name"),
    "bench model": Printed((BenchedModel,)),
    "bench node": Printed((BenchedNode,)),
    "node run": Printed((), "[Events](#events), an object on each line"),
    "route": Printed((PlannedRoute,)),
    "energy": Printed((EnergyReport,), "An object; with `--watch` one on each line"),
    "tariff show": Printed((TariffShown,)),
    "earnings": Printed((Earnings,), "An object; with `--jobs` a list of [jobs](#jobrecord)"),
    "sessions list": Printed((HeldSession,), "A list of objects, those first that expire first"),
    "sessions export": Printed((ExportedVouchers,)),
    "settle": Printed((Settling,)),
    "watch": Printed((Watched,), "[Events](#events), an object on each line; with `--once` an object"),
    "offers": Printed(
        (Offer,),
        "A list of objects: `provider`, which is the address that is paid, `left_out`, which is null or why routes do "
        "without it for now, and the offer; with `--watch` an object on each line, whenever an offer came, changed or "
        "went, with `change` (`new`, `changed` or `gone`) and `at`, Unix seconds, before them",
    ),
    "market": Printed((MarketFigures,), "A list of objects, one for each model"),
    "run": Printed(
        (JobReport, PrivacyTold),
        "An object; with `--verbose` also [events](#events) on stderr; with `--input` what "
        "[joule submit](#joule-submit) prints; with `--explain-privacy` an object with the fields of the second",
    ),
    "submit": Printed(
        (Batched, Answer), "An object with these of the first; the output file has one of the second on each line"
    ),
    "gateway run": Printed((), "[Events](#events), an object on each line"),
    "gateway backup": Printed((BackedUp,)),
    "gateway restore": Printed((Restored,)),
    "gateway migrate": Printed((Migrated,)),
    "gateway balance": Printed((Balances,)),
    "gateway key new": Printed((ShownKey,)),
    "gateway key list": Printed((ShownKey,), "A list of objects"),
    "gateway key revoke": Printed((ShownKey,)),
    "chat": Printed((JobReport,), "An object for each question, a line each; errors are objects on lines of their own"),
    "receipt list": Printed((ListedReceipt,), "A list of objects, newest first"),
    "receipt show": Printed((Claims,)),
    "receipt verify": Printed((Claims, Proven)),
    "receipt redact": Printed((Redacted,)),
    "audit": Printed((AuditReport,)),
    "peers list": Printed((RememberedPeer,), "A list of objects"),
    "peers forget": Printed((Forgotten,)),
    "balance": Printed((Balance,)),
    "reclaim": Printed((Reclaimed,)),
    "faucet": Printed((MovedMoney,)),
    "deposit": Printed((MovedMoney,)),
    "withdraw": Printed((MovedMoney,)),
    "stake": Printed((Staked,)),
    "unstake": Printed((Staked,)),
    "unbond": Printed((Staked,)),
    "contract deploy": Printed((Contract,)),
    "contract status": Printed((Contract,)),
    "contract verify": Printed((Contract,)),
    "demo": Printed((DemoFindings,), "An object with the fields of [joule run](#joule-run), and with these"),
    "doctor": Printed((Finding,), "A list of objects"),
    "status": Printed((Status,)),
    "completion": Printed((CompletionScript,)),
    "node setup": Printed((NodeSetUp,)),
    "unit": Printed((Unit,)),
    "page": Printed(
        (PageReady, PageState), "An object with the first field; the others are those of the page's `/state`"
    ),
}


def commands(command: click.Command, path: str = "") -> Iterator[str]:
    """The paths of all commands that take --json."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in COMMANDS if command is joule else command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from commands(found, f"{path} {name}".strip())
    elif any("--json" in each.opts for each in command.params):
        yield path


def docstrings(cls: type[Any]) -> dict[str, str]:
    """The docstring under each field, of the class and of those that it extends."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        if not isinstance(body, ast.ClassDef):
            raise TypeError(f"{each} is not a class")
        for field, below in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = (
                    below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
                )
                found[field.target.id] = " ".join(str(text).split())
    return found


def kind(hint: Any) -> str:
    """A type as JSON has it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return kind(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if each is type(None) else kind(each) for each in inner)
    if origin is tuple:
        return f"list of {kind(inner[0])}"
    if origin is dict or origin is Mapping:
        return f"object of {kind(inner[1])} by {kind(inner[0])}"
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, inner))
    if hasattr(hint, "__supertype__"):
        return kind(hint.__supertype__)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(f"`{each.value}`" for each in hint)
    if dataclasses.is_dataclass(hint):
        return f"object, see [{hint.__name__}](#{hint.__name__.lower()})"
    names = {
        int: "integer",
        str: "text",
        bool: "true or false",
        float: "number",
        bytes: "text (hex)",
        Path: "text",
        Any: "value",
    }
    return names[hint]


def parts(hint: Any) -> Iterator[type[Any]]:
    """The dataclasses in a type."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for each in typing.get_args(hint):
        yield from parts(each)


class Page:
    """Tables of fields, and whatever else these refer to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.wanted: list[type[Any]] = []

    def table(self, *classes: type[Any]) -> None:
        """The fields of these classes, one after another."""
        rows = [row for cls in classes for row in self._rows(cls)]
        if rows:
            self.lines += ["| field | holds | |", "|---|---|---|", *rows, ""]

    def _rows(self, cls: type[Any]) -> Iterator[str]:
        hints, texts = typing.get_type_hints(cls, include_extras=True), docstrings(cls)
        for field in dataclasses.fields(cls):
            hint = hints[field.name]
            self.wanted += [each for each in parts(hint) if each not in self.wanted]
            holds = kind(hint).replace("text (hex)", "address") if _is_address(cls, field.name) else kind(hint)
            text = texts.get(field.name, "").replace("``", "`").replace("None", "null")
            if not text and cls.__module__.startswith("node."):
                raise ValueError(f"{cls.__name__}.{field.name} has no docstring")
            yield f"| `{field.name}` | {holds} | {text} |"


def _is_address(cls: type[Any], name: str) -> bool:
    """Whether bytes are an address: those are printed with their checksum."""
    return name in ("address", "provider", "client", "operator", "peer") and cls is not Offer


def events() -> list[type[Event]]:
    """All kinds, in the order of their names."""
    kinds = [each for each in vars(node.events).values() if isinstance(each, type) and issubclass(each, Event)]
    return sorted((each for each in kinds if each is not Event), key=lambda each: each.name)


def page() -> str:
    """The whole page."""
    made = Page()
    made.lines += [GENERATED, "# JSON\n", INTRODUCTION]
    shown: dict[tuple[type[Any], ...], str] = {}
    for path in commands(joule):
        kinds, how = PRINTED[path]
        made.lines.append(f"## `joule {path}`\n")
        if kinds and kinds in shown:
            made.lines.append(
                f"{how}, with the fields of [joule {shown[kinds]}](#joule-{shown[kinds].replace(' ', '-')}).\n"
            )
            continue
        made.lines.append(f"{how}.\n")
        made.table(*kinds)
        shown[kinds] = path
    made.lines += ["## Errors\n", "Status 1, 2 or 70, and on stdout an object instead of the result.\n"]
    made.table(Failure)
    made.wanted.append(JobRecord)
    done: set[type[Any]] = set()
    sections: list[str] = []
    while pending := [each for each in made.wanted if each not in done]:
        for cls in pending:
            done.add(cls)
            start = len(made.lines)
            made.lines += [f"### {cls.__name__}\n", inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0] + "\n"]
            made.table(cls)
            sections += made.lines[start:]
            del made.lines[start:]
    made.lines += ["## Objects inside\n", *sections]
    made.lines += ["## Events\n", EVENTS]
    for each in events():
        text = inspect.cleandoc(each.__doc__ or "").replace("`OfferUnseen`", "`offer not seen`")
        made.lines += [f"### `{each.name}` ({each.level.word})\n", f"{text}\n"]
        made.table(each)
    return "\n".join(made.lines).rstrip() + "\n"


INTRODUCTION = """\
What commands print with `--json`. Amounts are integers: money in micro-units (millionths of a dollar), energy in
millijoules, prices in micro-units per million tokens. Addresses carry their checksum; other bytes are hex. Control
characters from others are escaped. Fields may be added; none changes its meaning.
"""
EVENTS = """\
What services tell, each on a line of its own with `time` (Unix seconds), `event` (the name below), `level`, and the
fields below. `--log-level` says which levels are told.
"""


def main() -> int:
    undocumented = sorted(set(commands(joule)) ^ set(PRINTED))
    if undocumented:
        print(f"named on one side only: {', '.join(undocumented)}; see PRINTED in scripts/gen_json_reference.py")
        return 1
    text = page()
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    if sys.argv[1:] == ["--check"]:
        print("docs/reference/json.md is out of date; run scripts/gen_json_reference.py")
        return 1
    PAGE.write_text(text)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
