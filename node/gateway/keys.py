"""API keys: what each may ask and spend, on disk. Of a key only its hash is kept.

Money is held for an answer before it is begun, and the rest of it is free again once the answer is over. What was held
when the process died counts as spent: nobody knows what came of it. Who can read the file learns what was spent and
when, not what was asked; who can write it can spend the gateway's money.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table, event, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from node.database_file import copy_database
from node.gateway.limits import Limits, limits_from_parameters
from node.gateway.reading import Parameters
from node.gateway.refusals import ApiError
from node.migrating import migrate, what_to_do
from node.ports import Clock
from protocol.errors import LocalError
from protocol.units import format_micro

__all__ = ["Hold", "Key", "KeyTerms", "Keys", "migrate_keys", "open_keys"]

PREFIX = "jk"
_ROOT = re.compile("[0-9a-f]{8,64}")
"""The beginning of a model's root."""
SCHEMA_VERSION = "1"
"""Whoever changes a table adds a file to `revisions`, which leads to the new version."""
FIRST_VERSION = "1"
"""The oldest that can be migrated."""
REVISIONS = Path(__file__).parent / "revisions"
_METADATA = MetaData()
_META = Table(
    "meta",
    _METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", String(32), nullable=False),
)
"""``schema``: version of these tables."""
_KEYS = Table(
    "keys",
    _METADATA,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("budget", BigInteger),
    Column("rate", Integer),
    Column("at_once", Integer),
    Column("expires_at", BigInteger),
    Column("models", String, nullable=False),
    Column("limits", String, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("spent", BigInteger, nullable=False),
)
_HOLDS = Table(
    "holds",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("key", String(16), nullable=False, index=True),
    Column("micro", BigInteger, nullable=False),
)
_ANSWERS = Table(
    "answers",
    _METADATA,
    Column("id", String(32), primary_key=True),
    Column("key", String(16), nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("model", String(128), nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("micro", BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key may do; None is no limit."""

    name: str
    """For people."""
    budget_micro: int | None = None
    """Micro-units that it may spend in all."""
    rate: int | None = None
    """Requests in a minute."""
    at_once: int | None = None
    """Answers at once."""
    expires_at: int | None = None
    """Unix seconds."""
    models: tuple[str, ...] = ()
    """Names or beginnings of roots that it may ask for; any where there are none."""
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it stands now."""

    id: str
    terms: KeyTerms
    made_at: int
    """Unix seconds."""
    revoked_at: int | None
    """Unix seconds; None while it is good."""
    spent_micro: int
    held_micro: int
    """Micro-units for answers that run now."""

    def require_good(self, now: int) -> None:
        """Raises ApiError for a key that was revoked, or has expired."""
        expires_at = self.terms.expires_at
        if self.revoked_at is not None:
            raise _wrong_key("this API key was revoked")
        if expires_at is not None and expires_at <= now:
            raise _wrong_key("this API key has expired")

    def require_model(self, asked: str) -> None:
        """Raises ApiError for a model that the key may not ask for."""
        models = self.terms.models
        if models and not any(asked == each or (_ROOT.fullmatch(each) and asked.startswith(each)) for each in models):
            raise ApiError(
                403,
                f"this API key may not ask for {asked[:64]!r}",
                kind="invalid_request_error",
                code="model_not_allowed",
                param="model",
            )


@dataclass(frozen=True, slots=True)
class Hold:
    """Money that is held for one answer."""

    key: str
    """Its id; empty where nobody needs one."""
    number: int
    micro: int


class Keys:
    """One file of keys. Made by `open_keys`; its methods raise LocalError where it cannot be used."""

    def __init__(self, engine: AsyncEngine, path: Path, clock: Clock) -> None:
        self._engine = engine
        self._path = path
        self._clock = clock
        self._one = asyncio.Lock()
        """Of this process: what is read is written before another one reads."""

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        try:
            async with self._one, self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise LocalError(f"{self._path} cannot be used: {reason}", code="keys") from None

    async def prepare(self) -> None:
        """Make the tables, where there are none. Raises LocalError where they are of another version."""
        async with self._transaction() as connection:
            await connection.run_sync(_META.create, checkfirst=True)
            found = await _version(connection)
            if found not in (None, SCHEMA_VERSION):
                hint = what_to_do(found, first=FIRST_VERSION, current=SCHEMA_VERSION, command="joule gateway migrate")
                said = f"{self._path} has tables of version {found}, not {SCHEMA_VERSION}"
                raise LocalError(said, code="gateway-version", hint=hint)
            await connection.run_sync(_METADATA.create_all)
            if found is None:
                await connection.execute(_META.insert().values(name="schema", value=SCHEMA_VERSION))

    async def new(self, terms: KeyTerms) -> tuple[Key, str]:
        """Another key, and the text that its owner is given: it is not kept."""
        identity, secret, made_at = secrets.token_hex(4), secrets.token_urlsafe(32), self._clock()
        row = {
            "id": identity,
            "name": terms.name,
            "digest": _digest(secret),
            "budget": terms.budget_micro,
            "rate": terms.rate,
            "at_once": terms.at_once,
            "expires_at": terms.expires_at,
            "models": json.dumps(terms.models),
            "limits": json.dumps(terms.limits.to_json()),
            "made_at": made_at,
            "spent": 0,
        }
        async with self._transaction() as connection:
            await connection.execute(_KEYS.insert().values(row))
        made = Key(id=identity, terms=terms, made_at=made_at, revoked_at=None, spent_micro=0, held_micro=0)
        return made, f"{PREFIX}-{identity}-{secret}"

    async def all(self) -> list[Key]:
        """Every key that was ever made, oldest first."""
        async with self._transaction() as connection:
            return [_key(row) for row in await connection.execute(_with_holds().order_by(_KEYS.c.made_at, _KEYS.c.id))]

    async def any(self) -> bool:
        """Whether a key was ever made: from then on one is needed."""
        async with self._transaction() as connection:
            return (await connection.execute(select(_KEYS.c.id).limit(1))).first() is not None

    async def revoke(self, identity: str) -> Key:
        """Make a key good for nothing, for good. Raises LocalError for one that there is not."""
        async with self._transaction() as connection:
            update = _KEYS.update().where(_KEYS.c.id == identity, _KEYS.c.revoked_at.is_(None))
            await connection.execute(update.values(revoked_at=self._clock()))
            row = (await connection.execute(_with_holds().where(_KEYS.c.id == identity))).first()
        if row is None:
            raise LocalError(f"there is no key {identity!r}", code="unknown-key", hint="`joule gateway key list`")
        return _key(row)

    async def find(self, text: str) -> Key:
        """The key that a caller shows. Raises ApiError for one that is none, was revoked, or has expired."""
        prefix, _, rest = text.partition("-")
        identity, _, secret = rest.partition("-")
        if prefix != PREFIX or not identity.isalnum() or len(identity) > 16 or not identity.isascii():
            raise _wrong_key("this is no API key of this gateway")
        async with self._transaction() as connection:
            row = (await connection.execute(_with_holds().where(_KEYS.c.id == identity))).first()
        # As much work for an id that there is not.
        if not hmac.compare_digest(_digest(secret), b"" if row is None else row.digest) or row is None:
            raise _wrong_key("this is no API key of this gateway")
        key = _key(row)
        key.require_good(self._clock())
        return key

    async def good(self, identity: str) -> Key:
        """A key by its id. Raises ApiError where it is good for nothing."""
        async with self._transaction() as connection:
            row = (await connection.execute(_with_holds().where(_KEYS.c.id == identity))).first()
        if row is None:
            raise _wrong_key("there is no such API key")
        key = _key(row)
        key.require_good(self._clock())
        return key

    async def hold(self, key: Key | None, micro: int) -> Hold:
        """Hold the most that an answer can cost. Raises ApiError where the key's budget leaves less."""
        if key is None:
            return Hold("", 0, micro)
        async with self._transaction() as connection:
            row = (await connection.execute(_with_holds().where(_KEYS.c.id == key.id))).one()
            left = None if row.budget is None else row.budget - row.spent - row.held
            if left is not None and micro > left:
                raise ApiError(
                    429,
                    f"this API key has {format_micro(max(0, left))} left of its budget, and the answer may cost "
                    f"{format_micro(micro)}; lower max_tokens, or ask for a larger budget",
                    kind="insufficient_quota",
                    code="insufficient_quota",
                )
            done = await connection.execute(_HOLDS.insert().values(key=key.id, micro=micro))
            return Hold(key.id, int(cast("Any", done.inserted_primary_key)[0]), micro)

    async def settle(self, hold: Hold, answer: str, *, model: str, tokens: tuple[int, int], micro: int) -> None:
        """An answer is over: what it cost is spent, the rest free.

        Args:
            answer: its id.
            tokens: prompt and generated ones.
        """
        async with self._transaction() as connection:
            await connection.execute(_HOLDS.delete().where(_HOLDS.c.id == hold.number))
            await connection.execute(_spend(hold.key, micro))
            kept = {"id": answer, "key": hold.key, "at": self._clock(), "model": model, "micro": micro}
            await connection.execute(_ANSWERS.insert().values(**kept, tokens_in=tokens[0], tokens_out=tokens[1]))

    async def owns(self, key: Key | None, answer: str) -> bool:
        """Whether an answer was given to this key, and is over."""
        owner = "" if key is None else key.id
        async with self._transaction() as connection:
            found = select(_ANSWERS.c.id).where(_ANSWERS.c.id == answer, _ANSWERS.c.key == owner)
            return (await connection.execute(found)).first() is not None

    async def begin(self) -> None:
        """At a start: what was held by a process that is no more counts as spent."""
        async with self._transaction() as connection:
            for row in await connection.execute(select(_HOLDS.c.key, func.sum(_HOLDS.c.micro)).group_by(_HOLDS.c.key)):
                await connection.execute(_spend(row[0], int(row[1])))
            await connection.execute(_HOLDS.delete())


async def _version(connection: AsyncConnection) -> str | None:
    found = await connection.scalar(select(_META.c.value).where(_META.c.name == "schema"))
    return None if found is None else str(found)


async def migrate_keys(path: Path, *, revisions: Path = REVISIONS) -> tuple[str, str, Path | None]:
    """Bring a file of keys to the newest version of its tables, while nobody uses it; a copy is made beside it first.

    Returns the version before, the version now, and the copy. Raises LocalError.
    """
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    event.listen(engine.sync_engine, "connect", _prepare)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_META.create, checkfirst=True)
            before = await _version(connection) or FIRST_VERSION
        if before == SCHEMA_VERSION and revisions == REVISIONS:
            return before, before, None
        copy = copy_database(path, path.with_name(f"{path.name}.version-{before}"))
        async with engine.begin() as connection:
            now = await connection.run_sync(migrate, revisions, before)
            await connection.execute(_META.delete().where(_META.c.name == "schema"))
            await connection.execute(_META.insert().values(name="schema", value=now))
        return before, now, copy
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise LocalError(f"{path} cannot be migrated: {reason}", code="keys") from None
    finally:
        await engine.dispose()


def _spend(key: str, micro: int) -> Any:
    return _KEYS.update().where(_KEYS.c.id == key).values(spent=_KEYS.c.spent + micro)


def _with_holds() -> Any:
    held = select(func.coalesce(func.sum(_HOLDS.c.micro), 0)).where(_HOLDS.c.key == _KEYS.c.id).scalar_subquery()
    return select(_KEYS, held.label("held"))


def _key(row: Any) -> Key:
    terms = KeyTerms(
        name=row.name,
        budget_micro=row.budget,
        rate=row.rate,
        at_once=row.at_once,
        expires_at=row.expires_at,
        models=tuple(json.loads(row.models)),
        limits=limits_from_parameters(Parameters(json.loads(row.limits))),
    )
    times = {"made_at": row.made_at, "revoked_at": row.revoked_at}
    return Key(id=row.id, terms=terms, **times, spent_micro=row.spent, held_micro=row.held)


def _digest(secret: str) -> bytes:
    """Of 256 random bits: there is nothing to be guessed, so a slow hash would protect nothing."""
    return hashlib.sha256(secret.encode(errors="replace")).digest()


def _wrong_key(message: str) -> ApiError:
    return ApiError(401, message, kind="invalid_request_error", code="invalid_api_key")


@asynccontextmanager
async def open_keys(path: Path, clock: Clock) -> AsyncIterator[Keys]:
    """The keys in a file, which is made where there is none. Raises LocalError."""
    await asyncio.to_thread(_make, path)
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    event.listen(engine.sync_engine, "connect", _prepare)
    keys = Keys(engine, path, clock)
    try:
        await keys.prepare()
        yield keys
    finally:
        await engine.dispose()


def _make(path: Path) -> None:
    """For its owner's eyes; SQLite's own files beside it take its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError as error:
        raise LocalError(f"{path} cannot be made: {error.strerror}", code="keys") from None


def _prepare(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA busy_timeout = 5000")
    cursor.close()
