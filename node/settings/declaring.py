"""How settings are declared, read and written: one declaration gives the TOML key, the variable and the flag.

A setting is a field of a frozen dataclass, made by `setting`. The field's name carries the unit that it is held in, and
the key, variable and flag that people use have a name of their own where that reads better. `load` fills the dataclass
from a TOML file, the environment and command line flags, each overriding the one before. `template` writes a commented
file with every setting at its default. docs/reference/configuration.md and ``--help`` come from the same declarations.
Which settings there are is in `node.config`; what kinds of value they take is in `node.settings.kinds`.
"""

from __future__ import annotations

import dataclasses
import difflib
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, TypeVar

from node.settings.kinds import Folder, Kind
from node.settings.law import Paths, SignedFiles
from node.settings.models import Mirrors, ModelPlace
from protocol.encoding.bounded_toml import MAX_TOML_BYTES, parse_toml
from protocol.errors import ConfigurationError, InvalidError

__all__ = ["Setting", "declared", "differences", "load", "setting", "template"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting."""

    name: str
    """As people know it: the key in the TOML table, from which flag and variable follow."""
    field: str
    """Of the dataclass."""
    table: str
    """The TOML table that it stands in."""
    kind: Kind
    """What it may be, in which unit."""
    about: str
    """One or two sentences for people."""
    default: Any
    """Its value when nobody gives one; MISSING where someone must."""
    shown: str
    """The TOML literal that documentation shows: the default, or an example where the default is computed or none."""
    flag: str
    """Such as ``--energy-price``."""
    variable: str
    """Such as ``JOULE_ENERGY_PRICE``."""
    reloadable: bool
    """Whether a service that runs takes over a change; else it counts from the next start."""

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def is_written(self) -> bool:
        """Whether the default can be written into a file, or only shown as a comment."""
        return not self.required and self.default is not None and not callable(self.default)

    @property
    def default_text(self) -> str:
        """The default for people."""
        if self.required:
            return "required"
        if self.default is None or self.default == ():
            return "none"
        return self.shown.strip('"')


def setting(
    kind: Kind,
    *,
    table: str,
    about: str,
    default: Any = MISSING,
    factory: Callable[[], Any] | None = None,
    example: str = "",
    name: str = "",
    flag: str = "",
    variable: str = "",
    reloadable: bool = False,
) -> Any:
    """Declare a setting as a dataclass field.

    Args:
        default: the value as the dataclass holds it (integers in the smallest unit).
        factory: computes the default, for one that depends on the machine.
        example: TOML literal to show where there is no default to write.
        name: what people call it, where it is not the field's name.
        flag: where it is not ``--`` and the name.
        variable: where it is not ``JOULE_`` and the name.
        reloadable: whether a service that runs takes over a change (on SIGHUP).
    """
    metadata = {"setting": (kind, table, about, example, name, flag, variable, reloadable)}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def declared(cls: type[Any]) -> tuple[Setting, ...]:
    """The settings of a configuration dataclass, in the order of their declaration."""
    found = []
    for field in dataclasses.fields(cls):
        kind, table, about, example, name, flag, variable, reloadable = field.metadata["setting"]
        name = name or field.name
        default = field.default if field.default_factory is MISSING else field.default_factory
        shown = example if default is MISSING or default is None or callable(default) else kind.show(default)
        found.append(
            Setting(
                name=name,
                field=field.name,
                table=table,
                kind=kind,
                about=about,
                default=default,
                shown=shown,
                flag=flag or "--" + name.replace("_", "-"),
                variable=variable or "JOULE_" + name.upper(),
                reloadable=reloadable,
            )
        )
    return tuple(found)


def load(
    cls: type[T],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> T:
    """A configuration: defaults, then the TOML `file`, then the `environment`, then `flags` (by setting name).

    Relative paths in a file are meant from the file's folder; elsewhere from the working directory.

    Raises:
        ConfigurationError: an unknown key, an ill-typed or out-of-range value, or a required setting left out.
    """
    values: dict[str, Any] = {}
    settings = declared(cls)
    if file is not None:
        values.update(_from_file(settings, file))
    for each in settings:
        text = (environment or {}).get(each.variable)
        if text:
            values[each.name] = _parse(each, text, each.variable)
        given = (flags or {}).get(each.name)
        if given is not None and given != ():
            values[each.name] = _parse(each, given, each.flag)
    for each in settings:
        if each.required and each.name not in values:
            ways = f"{each.flag} {each.kind.metavar}, {each.variable}, or {each.name} in [{each.table}] of a file"
            raise ConfigurationError(f"{each.name} is not set. {each.about}", hint=f"give {ways}")
    return cls(**{each.field: values[each.name] for each in settings if each.name in values})


def differences(old: Any, new: Any) -> tuple[Setting, ...]:
    """The settings in which two configurations of one class differ."""
    return tuple(each for each in declared(type(old)) if getattr(old, each.field) != getattr(new, each.field))


def _from_file(settings: Iterable[Setting], file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            document = parse_toml(opened.read(4 * MAX_TOML_BYTES + 1).decode())
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file}: {error.strerror}", hint="check the path given to --config"
        ) from None
    except (InvalidError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not TOML: {error}", hint="`joule node init` writes a valid file") from None
    known = {(each.table, each.name): each for each in settings}
    values = {}
    for table, content in document.items():
        if not isinstance(content, dict) or table not in {each.table for each in known.values()}:
            raise _unknown_at_top(table, content, known, file)
        for key, raw in content.items():
            each = known.get((table, key))
            if each is None:
                raise _unknown_key(table, key, known, file)
            value = _parse(each, raw, f"{each.name} in [{table}] of {file}")
            if isinstance(each.kind, Folder):
                value = file.parent / value
            elif isinstance(each.kind, (Paths, SignedFiles, ModelPlace, Mirrors)):
                value = each.kind.within(value, file.parent)
            values[each.name] = value
    return values


def _unknown_at_top(
    table: str, content: Any, known: Mapping[tuple[str, str], Setting], file: Path
) -> ConfigurationError:
    if not isinstance(content, dict):
        return _unknown_key("", table, known, file)
    tables = sorted({each.table for each in known.values()})
    close = difflib.get_close_matches(table, tables, 1)
    hint = f"did you mean [{close[0]}]?" if close else "its tables are " + ", ".join(f"[{name}]" for name in tables)
    return ConfigurationError(f"unknown table [{table}] in {file}", hint=hint)


def _unknown_key(table: str, key: str, known: Mapping[tuple[str, str], Setting], file: Path) -> ConfigurationError:
    where = f"in [{table}] of {file}" if table else f"at the top of {file}"
    homes = {each.name: each.table for each in known.values()}
    near = difflib.get_close_matches(key, homes, 1, cutoff=0.5)
    if not near:
        hint = "`joule node init --out FILE` writes a file with every setting"
    elif key in homes or homes[near[0]] != table:
        hint = f"did you mean {near[0]} in [{homes[near[0]]}]?"
    else:
        hint = f"did you mean {near[0]}?"
    return ConfigurationError(f"unknown setting {key!r} {where}", hint=hint)


def _parse(each: Setting, raw: Any, where: str) -> Any:
    try:
        return each.kind.parse(raw)
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}", hint=f"it takes {each.kind.describe()}") from None


def template(cls: type[Any], *, title: str, values: Any = None) -> str:
    """A commented TOML file with every setting: written out at its default, or as a comment where there is none.

    Args:
        values: a configuration whose settings are written instead, where they are not the default.
    """
    lines = [f"# {title}", "# Flags override environment variables, which override this file.", ""]
    tables: dict[str, list[Setting]] = {}
    for each in declared(cls):
        tables.setdefault(each.table, []).append(each)
    for table, settings in tables.items():
        lines.append(f"[{table}]")
        for each in settings:
            shown, is_written = _line_of(each, values)
            lines += ["# " + line for line in textwrap.wrap(each.about, 110)]
            lines.append(f"# Takes {each.kind.describe()}; {each.flag}, {each.variable}; default: {each.default_text}")
            lines.append(f"{'' if is_written else '# '}{each.name} = {shown}")
            lines.append("")
    return "\n".join(lines)


def _line_of(each: Setting, values: Any) -> tuple[str, bool]:
    """The TOML literal of a setting, and whether it is to count or stands there as an example."""
    if values is None:
        return each.shown, each.is_written
    value = getattr(values, each.field)
    default = each.default() if callable(each.default) else each.default
    if value is None or value == default:
        return each.shown, each.is_written
    return each.kind.show(value), True
