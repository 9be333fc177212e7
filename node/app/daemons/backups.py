"""Backups of a ledger and of a gateway: made while they run, put in place where nothing is, and checked on the way.

A backup is a folder of files, with `backup.json`, which lists them by SHA-256. A ledger's has the key that signs its
checkpoints: who reads it can sign for that ledger.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.daemons.ledger import verify_ledger
from node.app.process.clock import clock
from node.app.process.services import services_here
from node.config import GatewayConfig, LedgerConfig
from node.database_file import copy_database
from node.durable import create_file, replace_file
from node.gateway import keys as gateway_keys
from node.ledger import Progress
from node.ledger.log_key import read_log_key
from node.ledger.schema import SCHEMA_VERSION
from protocol.encoding.strict_json import exact_keys, parse_object
from protocol.errors import ConfigurationError, LocalError, MalformedError

__all__ = ["BackedUp", "Migrated", "Restored", "backup", "migrate", "restore"]

FORMAT, LIST = "joulemesh-backup/1", "backup.json"
ABOUT = "A backup. Put it in place with: joule ledger restore FOLDER, or joule gateway restore FOLDER"
MOST_LIST = 64 * 1024 * 1024
_DATABASES = {"ledger": "ledger.sqlite3", "gateway": "keys.sqlite3"}
_KEYS = ("log.key", "peer.key")
"""Of a ledger; a gateway has none of its own."""
_BATCHES = "files"
"""Folder of a gateway's batches."""
_VERSIONS = {"ledger": SCHEMA_VERSION, "gateway": gateway_keys.SCHEMA_VERSION}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp:
    """A backup that was made."""

    folder: str
    """Where it is."""
    service: str
    """``ledger`` or ``gateway``."""
    files: int
    """How many files it has, the list of them not counted."""
    size: int
    """Bytes of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A backup that was put in place."""

    folder: str
    """Where it is now."""
    service: str
    """``ledger`` or ``gateway``."""
    made_at: int
    """When the backup was made, Unix seconds."""
    entries: int | None
    """Of a ledger: how many were replayed, each under the rules; null for a gateway."""
    root: bytes | None
    """Of a ledger's newest checkpoint, 32 bytes; null for a gateway, or a ledger that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """A database whose tables were brought to the newest version."""

    before: str
    """The version that they had."""
    now: str
    """The version that they have."""
    copy: str | None
    """What the database was before; null where nothing was to be done, or its server makes copies."""


def _home(service: str, data_dir: Path) -> Path:
    return data_dir / service


def backup(config: LedgerConfig | GatewayConfig, folder: Path) -> BackedUp:
    """Copy a service's database, keys and files to a new folder, also while it runs.

    Raises:
        ConfigurationError: there is nothing to be copied, it is on a database server, or the folder is not empty.
        LocalError: something cannot be read or written.
    """
    service = _service(config)
    if isinstance(config, LedgerConfig) and config.database is not None:
        raise ConfigurationError(
            "a ledger whose database has a URL is backed up with that server's own tools",
            hint="pg_dump for PostgreSQL; and copy log.key from the data directory",
        )
    home, database = _home(service, config.data_dir), _DATABASES[service]
    if not (home / database).is_file():
        raise ConfigurationError(f"there is no {service} in {home}", hint="name its data directory with --data-dir")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        if any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty", hint="each backup has a folder of its own")
        copy_database(home / database, folder / database)
        for name in _others(home):
            (folder / name).parent.mkdir(exist_ok=True, mode=0o700)
            create_file(folder / name, (home / name).read_bytes())
        files = [_listed(folder, name) for name in [database, *_others(folder)]]
        value: dict[str, Any] = {"format": FORMAT, "about": ABOUT, "service": service, "version": _VERSIONS[service]}
        value |= {"made_at": clock(), "files": files}
        # Without its list a backup is none: so it comes last.
        replace_file(folder / LIST, json.dumps(value, indent=1).encode() + b"\n")
    except OSError as error:
        raise LocalError(f"the backup in {folder} cannot be made: {error.strerror}", code="backup") from None
    return BackedUp(folder=str(folder), service=service, files=len(files), size=sum(each["size"] for each in files))


def _service(config: LedgerConfig | GatewayConfig) -> str:
    return "ledger" if isinstance(config, LedgerConfig) else "gateway"


def _others(home: Path) -> list[str]:
    """What there is besides the database, by its path within the folder."""
    batches = home / _BATCHES
    kept = sorted(batches.iterdir()) if batches.is_dir() else []
    found = [name for name in _KEYS if (home / name).is_file()]
    return [*found, *(f"{_BATCHES}/{each.name}" for each in kept if each.is_file() and each.name[0] != ".")]


def _listed(folder: Path, name: str) -> dict[str, Any]:
    with (folder / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": name, "size": (folder / name).stat().st_size, "sha256": digest}


async def restore(config: LedgerConfig | GatewayConfig, folder: Path, *, progress: Progress | None = None) -> Restored:
    """Put a backup in place where there is no such service yet; a ledger's whole log is replayed before it counts.

    Raises:
        ConfigurationError: there is one already, or the backup is none, or of another service or version.
        LocalError: a file is not what the list says, something cannot be written, or the log breaks a rule.
    """
    service = _service(config)
    home, value = _home(service, config.data_dir), _read_list(folder, service)
    if home.exists() and any(home.iterdir()):
        raise ConfigurationError(f"{home} is not empty", hint="restore into another --data-dir, or move it away")
    names = [each["name"] for each in value["files"]]
    for each in value["files"]:
        if _listed_safely(folder, each["name"]) != each:
            said = f"{folder / each['name']} is not what was backed up"
            raise LocalError(said, code="backup", hint="use another one")
    draft = home.with_name(f".{home.name}.restored")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, mode=0o700)
        for name in names:
            (draft / name).parent.mkdir(exist_ok=True, mode=0o700)
            create_file(draft / name, (folder / name).read_bytes())
        entries, root = await _replayed(draft, progress) if service == "ledger" else (None, None)
        if home.exists():
            home.rmdir()
        draft.replace(home)
    except OSError as error:
        raise LocalError(f"the backup cannot be put in {home}: {error.strerror}", code="backup") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Restored(folder=str(home), service=service, made_at=value["made_at"], entries=entries, root=root)


def _read_list(folder: Path, service: str) -> dict[str, Any]:
    """What a backup says of itself. Raises ConfigurationError."""
    try:
        value = exact_keys(
            parse_object((folder / LIST).read_bytes(), limit=MOST_LIST, depth=3),
            *("format", "about", "service", "version", "made_at", "files"),
        )
        names = [exact_keys(each, "name", "size", "sha256")["name"] for each in value["files"]]
        if value["format"] != FORMAT or type(value["made_at"]) is not int:
            raise MalformedError("it has another format")
        allowed = {_DATABASES[service], *(_KEYS if service == "ledger" else ())}
        if value["service"] == service and not all(each in allowed or _is_batch(each) for each in names):
            raise MalformedError("it names a file that no backup has")
    except OSError as error:
        raise ConfigurationError(f"there is no backup in {folder}: {error.strerror}") from None
    except (MalformedError, TypeError) as error:
        raise ConfigurationError(f"{folder / LIST} is no list of a backup: {error}") from None
    if value["service"] != service or _DATABASES[service] not in names:
        raise ConfigurationError(f"this is a backup of a {value['service']}, not of a {service}")
    if value["version"] != _VERSIONS[service]:
        raise ConfigurationError(
            f"its tables are of version {value['version']}, not {_VERSIONS[service]}",
            hint=f"restore it with the version that made it; then: joule {service} migrate",
        )
    return value


def _is_batch(name: object) -> bool:
    return isinstance(name, str) and name.startswith(f"{_BATCHES}/") and name.count("/") == 1 and "/." not in name


def _listed_safely(folder: Path, name: str) -> dict[str, Any] | None:
    try:
        return _listed(folder, name)
    except OSError:
        return None


async def _replayed(home: Path, progress: Progress | None) -> tuple[int, bytes | None]:
    """That a ledger's log keeps to the rules, under the key beside it; entries and root. Raises LocalError."""
    key = str(read_log_key(home / "log.key").verifier)
    found = await verify_ledger(str(home / _DATABASES["ledger"]), verifier_key=key, progress=progress)
    for each in _beside(home / _DATABASES["ledger"]):
        each.unlink(missing_ok=True)
    if found.fault is not None:
        raise LocalError(f"the log in the backup is not sound: {found.fault}", code="backup", hint="use an older one")
    return found.entries, None if found.checkpoint is None else found.checkpoint.root


def _beside(database: Path) -> Iterator[Path]:
    """SQLite's own files, which a reader has made."""
    return (database.with_name(database.name + suffix) for suffix in ("-wal", "-shm"))


async def migrate(config: LedgerConfig | GatewayConfig) -> Migrated:
    """Bring a service's database to the newest version of its tables, while the service does not run.

    Raises ConfigurationError, LocalError: there is none, it runs, or no migration leads on from its version.
    """
    from node.gateway.keys import migrate_keys
    from node.ledger.migrated import migrate_database

    service = _service(config)
    home = _home(service, config.data_dir)
    if service in (each.service for each in services_here(config.data_dir)):
        raise LocalError(f"the {service} is running", code="running", hint="stop it first")
    if isinstance(config, LedgerConfig):
        before, now, copy = await migrate_database(config.database or home / _DATABASES[service])
    else:
        before, now, copy = await migrate_keys(_existing(home / _DATABASES[service]))
    return Migrated(before=before, now=now, copy=None if copy is None else str(copy))


def _existing(database: Path) -> Path:
    if not database.is_file():
        raise ConfigurationError(f"there are no API keys at {database}", hint="`joule gateway key new` makes one")
    return database
