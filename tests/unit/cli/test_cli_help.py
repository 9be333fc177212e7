"""Help, start-up and what is installed under our names."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from node.cli.entry import COMMANDS, PLUGINS, joule

Joule = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
PRINTS_NO_DATA = {"key export", "node init"}
"""Commands whose output is a file's content."""


def commands(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        names = COMMANDS if command is joule else command.list_commands(context)
        for name in names:
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, f"{path} {name}".strip())
    if path:
        yield path, command


ALL = dict(commands(joule))


@pytest.mark.parametrize("path", sorted(ALL))
def test_every_command_has_help_that_ends_in_an_example(path: str, joule: Joule) -> None:
    outcome = joule(*path.split(), "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"Usage: joule {path}")
    before, _, examples = outcome.out.rpartition("Example")
    assert before
    assert f"joule {path.split()[0]}" in examples


@pytest.mark.parametrize("path", sorted(path for path, command in ALL.items() if not isinstance(command, click.Group)))
def test_every_printing_command_takes_json(path: str) -> None:
    flags = {flag for parameter in ALL[path].params for flag in parameter.opts}
    assert ("--json" in flags) is (path not in PRINTS_NO_DATA)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from node.cli.entry import status_of; status_of(['--help']); "
        "print(sorted({'aiohttp', 'libp2p', 'numpy', 'rich', 'sqlalchemy', 'torch', 'trio'} "
        "& set(sys.modules)), file=sys.stderr)"
    )
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert outcome.stderr == "[]\n"


def test_the_names_of_our_packages_are_ours_alone() -> None:
    owners = importlib.metadata.packages_distributions()
    for name in ("node", "protocol", "simulator"):
        assert set(owners.get(name, [])) <= {"joulemesh"}, "uninstall it: whichever comes first on the path wins"
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin == str(ROOT / name / "__init__.py")


def test_the_simulator_is_a_plug_in() -> None:
    points = [point for point in importlib.metadata.entry_points(group=PLUGINS) if point.name == "sim"]
    if not points:
        pytest.skip("installed before the entry point was declared: reinstall")
    assert points[0].value == "simulator.cli:sim"


def test_the_version_is_the_distributions(joule: Joule) -> None:
    assert joule("--version").out == f"joule {importlib.metadata.version('joulemesh')}\n"


def test_init_writes_a_file_once(joule: Joule, tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    assert joule("node", "init", "--out", str(file)).status == 0
    assert file.read_text() == joule("node", "init").out
    assert joule("node", "init", "--out", str(file)).status == 1


def test_the_doctor_finds_this_installation_sound(joule: Joule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULE_ENERGY_PRISE", "1")
    joule("key", "new", "--light")
    outcome = joule("doctor", "--json")
    findings = {each["what"]: each for each in outcome.json}
    assert [each for each in outcome.json if each["level"] == "fail"] == []
    assert outcome.status == 0
    assert findings["keys"]["detail"] == "default"
    assert findings["JOULE_ENERGY_PRISE"]["level"] == "note"
    assert "joulemesh" in joule("doctor").out


def test_the_doctor_finds_a_keystore_that_others_can_read(joule: Joule, home: Path) -> None:
    joule("key", "new", "--light")
    (home / "keys").chmod(0o755)
    (home / "keys" / "default.json").chmod(0o644)
    outcome = joule("doctor", "--json")
    assert outcome.status == 1
    assert {each["what"] for each in outcome.json if each["level"] == "fail"} == {"keystore", "keys"}


def test_a_receipt_that_exists_is_refused_before_anything_else(joule: Joule, tmp_path: Path) -> None:
    file = tmp_path / "paid.json"
    file.write_text("evidence")
    outcome = joule("run", "hi", "--receipt", str(file), "--ledger", "http://127.0.0.1:9", "--json")
    assert (outcome.status, outcome.json["code"]) == (1, "exists")
    assert "choose another name" in outcome.json["hint"]
    assert file.read_text() == "evidence"
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "nowhere.json")
    assert joule("run", "hi", "--receipt", str(link), "--json").json["code"] == "exists"
    assert joule("run", "hi", "--receipt", str(tmp_path / "new.json"), "--json").json["code"] == "no-key"
