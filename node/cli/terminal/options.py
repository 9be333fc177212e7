"""Options that commands share: settings as flags, ``--json``, and the passphrase that opens a key."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import click

from node.config import AnchorConfig, ClientConfig, LedgerConfig, NodeConfig
from node.keystore import KeyFile, Keystore
from node.settings import Setting, declared, load
from node.settings.law import Addresses, Anchors, Corridors, Paths, Places, SignedFiles, Words
from node.settings.places import Jurisdictions, Multiaddrs
from node.settings.witnesses import Signers
from protocol.errors import KeystoreError
from protocol.identity.signing import SigningKey

__all__ = [
    "configured",
    "examples",
    "flags_of",
    "json_option",
    "key_file",
    "keystore",
    "passphrase_option",
    "read_passphrase",
    "unlocked",
]

Command = TypeVar("Command", bound=Callable[..., Any])
REPEATED = (Multiaddrs, Jurisdictions, Signers, Addresses, Anchors, Corridors, Paths, Places, SignedFiles, Words)
"""Kinds of setting whose flag may be given several times."""
PASSPHRASE_VARIABLE = "JOULE_PASSPHRASE"  # noqa: S105 - a name, not a passphrase


def examples(*lines: str) -> str:
    """The epilogue of a command's help, with line breaks kept."""
    return ("Example:\n\n\b\n" if len(lines) == 1 else "Examples:\n\n\b\n") + "\n".join(f"  {line}" for line in lines)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"Read the passphrase from the first line of FILE; else {PASSPHRASE_VARIABLE}, else a prompt.",
)


def configured(
    cls: type[Any], *, only: Iterable[str] = (), again: bool = False, unused: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Command], Command]:
    """Give a command ``--config`` and a flag for each setting of `cls`, and pass it the result as ``config``.

    Args:
        only: names of the settings that this command uses, where it uses few; no others become flags.
        again: pass ``read`` too, which reads file, environment and flags once more.
        unused: values for settings that have to be given, and that this command has no use for.
    """
    chosen = frozenset(only)

    def decorate(command: Command) -> Command:
        settings = [each for each in declared(cls) if not chosen or each.name in chosen]

        @functools.wraps(command)
        def wrapped(*args: Any, **values: Any) -> Any:
            file = values.pop("config_file")
            flags = {**unused, **{each.name: values.pop(each.name) for each in settings}}
            read = functools.partial(load, cls, file=file, environment=os.environ, flags=flags)
            if again:
                values["read"] = read
            return command(*args, config=read(), **values)

        for each in reversed(settings):
            wrapped = _flag(each)(wrapped)
        file_option = click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Take settings from a TOML file; flags and JOULE_ variables override it.",
        )
        return file_option(wrapped)  # type: ignore[return-value]

    return decorate


def flags_of(cls: type[Any], names: Iterable[str]) -> Callable[[Command], Command]:
    """Give a command a flag for each of these settings, and pass it what was given as ``flags``, by name, unread."""
    chosen = [each for each in declared(cls) if each.name in frozenset(names)]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(*args: Any, **values: Any) -> Any:
            given = {each.name: values.pop(each.name) for each in chosen}
            return command(*args, flags={name: value for name, value in given.items() if value != ()}, **values)

        for each in reversed(chosen):
            wrapped = _flag(each)(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def _flag(each: Setting) -> Callable[[Any], Any]:
    bounds = f"{each.kind.bounds}; " if each.kind.bounds else ""
    default = "required" if each.required else f"default: {each.default_text}"
    return click.option(
        each.flag,
        each.name,
        multiple=isinstance(each.kind, REPEATED),
        metavar=each.kind.metavar,
        help=f"{each.about}  [{bounds}{default}]",
    )


def keystore(data_dir: Path) -> Keystore:
    """The keystore of a data directory."""
    return Keystore(data_dir / "keys")


def key_file(config: NodeConfig | LedgerConfig | ClientConfig | AnchorConfig) -> KeyFile:
    """The key that a configuration names, still locked. Raises KeystoreError."""
    return keystore(config.data_dir).find(config.key)


def unlocked(
    config: NodeConfig | LedgerConfig | ClientConfig | AnchorConfig, passphrase_file: Path | None
) -> SigningKey:
    """The key that a configuration names. Raises KeystoreError, for a wrong passphrase too."""
    key = key_file(config)
    return key.unlock(read_passphrase(passphrase_file, f"Passphrase for the key {key.name!r}"))


def read_passphrase(file: Path | None, prompt: str, *, confirm: bool = False) -> str:
    """A passphrase: from a file, else from the environment, else asked for on a terminal. Raises KeystoreError."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").partition("\n")[0].removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise KeystoreError(f"cannot read the passphrase file {file}: {error}") from None
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase:
        return passphrase
    if not sys.stdin.isatty():
        hint = f"give --passphrase-file, or set {PASSPHRASE_VARIABLE}"
        raise KeystoreError("a passphrase is needed, and there is no terminal to ask on", code="passphrase", hint=hint)
    asked: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return asked
