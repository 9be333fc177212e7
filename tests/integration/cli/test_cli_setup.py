"""`joule node setup` and `joule unit`: what they write is what a service then runs with."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node.config import NodeConfig
from node.keystore import LIGHT
from node.settings import load

Joule = Callable[..., Any]
MODEL = Path(__file__).parents[3] / "node" / "demo" / "model"
SAID = ("--model", MODEL, "--jurisdiction", "DE", "--energy-price", "0.31", "--blocks", "0:2")


@pytest.fixture
def setup(joule: Joule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command, with keys that open at once, and no ledger on this machine."""
    monkeypatch.setattr("node.keystore.STANDARD", LIGHT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"

    def run(*arguments: object) -> Any:
        fixed = ("--user", "--folder", tmp_path / "etc", "--ledger", nobody)
        return joule("node", "setup", *map(str, (*fixed, *arguments)))

    return run


def findings(outcome: Any) -> dict[str, tuple[str, str]]:
    return {each["what"]: (each["level"], each["detail"]) for each in json.loads(outcome.out)["findings"]}


def test_what_is_written_is_what_a_node_is_run_with(setup: Callable[..., Any], home: Path, tmp_path: Path) -> None:
    outcome = setup(*SAID, "--public", "203.0.113.7", "--json")
    assert outcome.status == 1, "no ledger answers"
    written = json.loads(outcome.out)
    config = load(NodeConfig, file=Path(written["config"]))
    assert (config.model, config.blocks, config.jurisdiction) == (MODEL, (0, 2), "DE")
    assert config.energy_price_micro_per_kwh == 310_000
    assert config.announce == ("/ip4/203.0.113.7/tcp/4001",)
    assert (config.data_announce, config.data_port) == ("203.0.113.7", 4002)
    unit = Path(written["unit"]).read_text()
    command = shlex.split(next(line for line in unit.splitlines() if line.startswith("ExecStart=")))
    assert command[1:3] == ["node", "run"]
    assert command[command.index("--config") + 1] == written["config"]
    assert command[command.index("--passphrase-file") + 1] == written["passphrase"]
    assert f"JOULE_HOME={home}" in unit
    assert Path(written["passphrase"]).stat().st_mode & 0o077 == 0
    assert findings(outcome)["ledger"][0] == "fail"
    assert {what: level for what, (level, _) in findings(outcome).items() if what in ("model", "price", "place")} == {
        "model": "ok", "price": "ok", "place": "ok",
    }  # fmt: skip


def test_the_passphrase_that_is_made_opens_the_key_that_is_made(setup: Callable[..., Any], joule: Joule) -> None:
    written = json.loads(setup(*SAID, "--json").out)
    shown = joule("key", "export", "--passphrase-file", written["passphrase"])
    assert shown.status == 0, shown.err
    assert json.loads(shown.out)["address"] == written["address"].removeprefix("0x").lower()


def test_nothing_that_is_there_is_overwritten(setup: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "node.toml").write_text("mine")
    outcome = setup(*SAID)
    assert outcome.status == 1
    assert "is there already" in outcome.err
    assert [each.name for each in (tmp_path / "etc").iterdir()] == ["node.toml"]
    assert (tmp_path / "etc" / "node.toml").read_text() == "mine"


def test_a_key_that_is_there_must_open_with_the_passphrase(
    setup: Callable[..., Any], joule: Joule, tmp_path: Path
) -> None:
    assert joule("key", "new", "--light").status == 0
    other = tmp_path / "other"
    other.write_text("not that one\n")
    outcome = setup(*SAID, "--passphrase-file", other)
    assert outcome.status != 0
    assert "wrong passphrase" in outcome.err
    outcome = setup(*SAID)
    assert outcome.status != 0
    assert "--passphrase-file" in outcome.err
    assert not (tmp_path / "etc" / "passphrase").exists()
    assert not (tmp_path / "etc" / "node.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "/nowhere"), "model"),
        ((*SAID, "--blocks", "0:99"), "model"),
        ((*SAID, "--listen", "/unix/tmp"), "peers' port"),
        ((*SAID, "--meter", "shelly", "--meter-url", "http://127.0.0.1:1"), "meter"),
    ],
)
def test_what_would_not_work_is_found(setup: Callable[..., Any], arguments: tuple[object, ...], said: str) -> None:
    outcome = setup(*arguments, "--json")
    assert outcome.status == 1
    assert findings(outcome)[said][0] == "fail"


def test_a_model_may_be_a_root_that_is_fetched_later(setup: Callable[..., Any]) -> None:
    root = "ab" * 32
    outcome = setup("--model", root, "--jurisdiction", "DE", "--json")
    assert findings(outcome)["model"] == ("ok", f"{root}: what its blocks need is fetched when the node starts")
    assert load(NodeConfig, file=Path(json.loads(outcome.out)["config"])).model == Path(root)


def test_a_port_that_is_in_use_is_found(setup: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        outcome = setup(*SAID, "--data-port", other.getsockname()[1], "--json")
    assert findings(outcome)["data port"][0] == "fail"
    assert "in use" in findings(outcome)["data port"][1]


@pytest.mark.parametrize(
    "arguments", [(), ("--model", MODEL, "--energy-price", "cheap"), (*SAID, "--jurisdiction", "X")]
)
def test_settings_that_make_no_sense_write_nothing(
    setup: Callable[..., Any], arguments: tuple[object, ...], tmp_path: Path
) -> None:
    outcome = setup(*arguments)
    assert outcome.status == 1
    assert not (tmp_path / "etc").exists()


@pytest.mark.parametrize("service", ["node", "ledger", "gateway", "witness", "anchor"])
def test_a_unit_of_the_system_is_confined_and_gets_its_passphrase_as_a_credential(
    joule: Joule, tmp_path: Path, service: str
) -> None:
    config, secret = tmp_path / "a config.toml", tmp_path / "secret"
    config.write_text("")
    secret.write_text("x")
    outcome = joule("unit", service, "--config", str(config), "--passphrase-file", str(secret), "--json")
    text = json.loads(outcome.out)["text"]
    assert "DynamicUser=yes" in text
    assert f"LoadCredential=passphrase:{secret}" in text
    assert "--passphrase-file ${CREDENTIALS_DIRECTORY}/passphrase" in text
    assert f"'{config}'" in text, "a path with a blank is one word"
    if shutil.which("systemd-analyze"):
        file = tmp_path / f"joule-{service}.service"
        file.write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
