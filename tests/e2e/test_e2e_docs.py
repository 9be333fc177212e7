"""Every command in the documentation runs as printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_commands import INSTALLED, ROOT, SERVICE, Block, Reader, blocks, free_port
from postgres_server import running_postgres

from node.app.selling.measure import meter_of
from node.config import ClientConfig, NodeConfig
from node.energy import SpanSize, choose_energy
from node.settings import load
from node.tariff import checked_tariff

pytestmark = pytest.mark.timeout(400)  # a page is many processes, one after another, on a machine that may be busy

MODEL = "node/demo/model"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "how-to").glob("*.md")), ROOT / "docs/tutorial/first-job.md"]
SIZE = SpanSize(parameters=1_000_000, weight_bytes=4_000_000)
NAMED = ("ledger.example.org/main", "witness.example.org")
LANGUAGES = {"sh", "toml", "json", "python", "ini", "text", "yaml", ""}
SYSTEM_PACKAGES = {"gcc", "python3-dev", "python3-venv", "libgmp-dev", "postgresql"}
"""Names that Debian and Ubuntu have."""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader") / "machine"


def commands(page: Path) -> list[Block]:
    return [each for each in blocks(page) if each.language == "sh"]


def follow(reader: Reader, page: Path) -> Iterator[tuple[Block, str]]:
    """Follow a page's commands; services are waited for before whatever comes after them."""
    for block in commands(page):
        if not block.is_service:
            reader.until_ready()
        yield block, reader.follow(block)
    reader.until_ready()


def test_the_tutorial_runs_as_printed(folder: Path, forked: Path) -> None:
    printed = {}
    with Reader(folder, forked) as reader:
        for block, out in follow(reader, ROOT / "docs/tutorial/first-job.md"):
            printed[block.text] = out
        reader.stop()
    said = "\n".join(printed.values())
    for expected in ("verified offline: yes", "every entry follows the rules", "verdict         match", "llama-6x192"):
        assert re.sub(r" +", " ", expected) in re.sub(r" +", " ", said)


def test_a_ledger_is_run_as_printed(folder: Path, forked: Path) -> None:
    with Reader(folder, forked) as reader:
        reader.names = {
            "https://ledger.example.org": reader.ledger,
            "/tcp/4001": f"/tcp/{free_port()}",
            "--host 0.0.0.0": "--host 127.0.0.1",
            "/ip4/0.0.0.0": "/ip4/127.0.0.1",
        }
        said = "\n".join(out for _, out in follow(reader, ROOT / "docs/how-to/run-a-ledger.md"))
        reader.stop()
    assert said.count("every entry follows the rules") == 2


@pytest.mark.long
def test_a_ledger_with_two_front_ends_is_run_as_printed(folder: Path) -> None:
    with running_postgres() as server, Reader(folder, INSTALLED) as reader:
        reader.names = {
            "postgresql://joule@db.example.org/joule": f"'{server.empty_database()}'",
            "8646": str(free_port()),
        }
        said = "\n".join(out for _, out in follow(reader, ROOT / "docs/how-to/two-front-ends.md"))
        reader.stop()
    assert "$0.00 free" in said


@pytest.mark.long
def test_a_ledger_is_witnessed_as_printed(folder: Path, forked: Path) -> None:
    page, port = ROOT / "docs/how-to/witness.md", free_port()
    printed = "\n".join(block.text for block in commands(page))
    log, witness = (re.search(rf"{name}\+[0-9a-f]{{8}}\+[^@\s]+", printed) for name in NAMED)
    assert log is not None
    assert witness is not None
    with Reader(folder, forked) as reader:
        reader.follow(Block("sh", "joule key new --name operator"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key operator --name {NAMED[0]}"))
        verified = json.loads(reader.follow(Block("sh", f"joule ledger verify {reader.ledger} --json")))
        reader.stop()
        key = json.loads(reader.follow(Block("sh", f"joule witness key --name {NAMED[1]} --json")))
        reader.names = {
            log[0]: verified["verifier_key"],
            witness[0]: key["verifier_key"],
            "https://ledger.example.org": reader.ledger,
            "https://witness.example.org": f"http://127.0.0.1:{port}",
            "8646": str(port),
        }
        said = "\n".join(out for _, out in follow(reader, page))
        reader.stop()
    assert key["verifier_key"] in said
    assert "every entry follows the rules" in said


def test_a_node_is_run_as_printed(folder: Path, forked: Path) -> None:
    page = ROOT / "docs/how-to/run-a-node.md"
    with Reader(folder, forked) as reader:
        secret = folder / "secret"
        secret.write_text("what a person types\n")
        reader.names = {
            "/srv/models/Qwen3-8B": str(shutil.copytree(ROOT / MODEL, folder / "model")),
            '"0:18"': '"0:6"',
            "https://ledger.example.org": reader.ledger,
            "/tcp/4001": f"/tcp/{free_port()}",
            "4002": str(free_port()),
            "0.0.0.0": "127.0.0.1",
            "203.0.113.7": "127.0.0.1",
            "/run/secrets/joule": str(secret),
            "joule node setup": f"joule node setup --user --folder {folder / 'setup'} --key operator "
            f"--passphrase-file {secret}",
            "/etc/systemd/system/": f"{folder}/",
            "/etc/joule/ledger.toml": str(folder / "source" / "node.toml"),
            "/etc/joule/passphrase": str(secret),
        }
        reader.follow(Block("sh", "joule key new --name operator"))
        reader.follow(Block("sh", "# in a terminal of its own\njoule ledger run --key operator"))
        for block in blocks(page):
            if block.language == "toml":
                reader.until_ready()
                text = reader.called_here(block.text)
                tomllib.loads(text)
                # `node init` has written every setting; a person edits these
                (folder / "source" / "node.toml").write_text(text)
            elif block.language == "sh":
                reader.follow(block)
        reader.until_ready()
        offers = reader.follow(Block("sh", "joule offers --wait 20 --json"))
        reader.stop()
    assert '"jurisdiction": "DE"' in offers


@pytest.mark.long
def test_a_node_begins_with_an_empty_disk_as_printed(folder: Path, forked: Path) -> None:
    """The page's last part is another machine's, and comes first."""
    named, serving, published, variants = commands(ROOT / "docs/how-to/fetch-a-model.md")
    address = re.search(r"0x[0-9a-fA-F]{40}", named.text)
    assert address is not None
    with Reader(folder, forked) as reader:
        for key in ("default", "operator", "berlin"):
            reader.follow(Block("sh", f"joule key new --name {key}"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key operator"))
        reader.names = {"./model": str(shutil.copytree(ROOT / MODEL, folder / "model"))}
        reader.follow(published)
        assert "Spot checks judge: int8" in reader.follow(variants)
        made = json.loads(reader.follow(Block("sh", "joule model catalogue show models.catalogue --json")))
        reader.follow(Block("sh", f"{SERVICE}\njoule node run --model ./model --blocks 0:2 --key berlin"))
        reader.until_ready()
        reader.names = {address[0]: made["publisher"]}
        assert "llama-6x192" in reader.follow(named)
        reader.follow(serving)
        reader.until_ready()
        here = json.loads(reader.follow(Block("sh", "joule model list --json")))
        reader.stop()
    assert [each["precision"] for each in here if each["here"]] == ["fp32"]


@pytest.mark.long
def test_the_market_is_seen_as_printed(folder: Path, forked: Path) -> None:
    """With one node of half a model: the page's own finds the other half."""
    with Reader(folder, forked) as reader:
        for key in ("default", "berlin", "operator"):
            reader.follow(Block("sh", f"joule key new --name {key}"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key operator"))
        reader.follow(Block("sh", f"{SERVICE}\njoule node run --model {MODEL} --blocks 0:3"))
        reader.until_ready()
        said = [out for _, out in follow(reader, ROOT / "docs/how-to/market.md")]
        offers = json.loads(reader.follow(Block("sh", "joule offers --wait 20 --json")))
        watched = (folder / "source" / "offers.jsonl").read_text().splitlines()
        reader.stop()
    assert "scarcest block" in said[0]
    assert [json.loads(line)["change"] for line in watched][:1] == ["new"]
    assert {(each["span"]["start"], each["span"]["end"]) for each in offers} == {(0, 3), (3, 6)}
    assert "orders came today" in said[-1]


@pytest.mark.long
def test_a_file_of_prompts_is_answered_as_printed(folder: Path, forked: Path) -> None:
    with Reader(folder, forked) as reader:
        for key in ("default", "berlin", "operator"):
            reader.follow(Block("sh", f"joule key new --name {key}"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key operator --faucet-limit 5"))
        reader.follow(Block("sh", f"{SERVICE}\njoule node run --model {MODEL} --blocks 0:6 --key berlin"))
        reader.until_ready()
        reader.follow(Block("sh", "joule faucet 5"))
        said = [out for _, out in follow(reader, ROOT / "docs/how-to/batch.md")]
        answers = [(folder / "source" / name).read_text() for name in ("prompts.answers.jsonl", "cheap.jsonl")]
        reader.stop()
    assert "3 of 3" in said[0]
    assert "saved" in said[1]
    assert [sorted(json.loads(line)["id"] for line in each.splitlines()) for each in answers] == [
        ["one", "three", "two"]
    ] * 2


@pytest.mark.long
def test_applications_are_served_as_printed(folder: Path, forked: Path) -> None:
    with Reader(folder, forked) as reader:
        port = str(free_port())
        reader.names = {"joule gateway run": f"joule gateway run --port {port}", "8640": port}
        for key in ("default", "berlin"):
            reader.follow(Block("sh", f"joule key new --name {key}"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key default --faucet-limit 5"))
        reader.follow(
            Block("sh", f"{SERVICE}\njoule node run --model {MODEL} --blocks 0:6 --key berlin --jurisdiction DE")
        )
        reader.until_ready()
        reader.follow(Block("sh", "joule faucet 5"))
        said = "\n".join(out for _, out in follow(reader, ROOT / "docs/how-to/gateway.md"))
        reader.stop()
    assert '"price_out"' in said
    assert said.count('"finish_reason": "stop"') + said.count('"finish_reason": "length"') == 2
    assert "data: [DONE]" in said
    assert "key  jk-" in re.sub(" +", "  ", said)


@pytest.mark.long
def test_energy_is_measured_as_printed(folder: Path, forked: Path) -> None:
    """Each table is one that a node takes; the commands are for one that runs."""
    page = ROOT / "docs/how-to/measure-energy.md"
    tables = [block.text for block in blocks(page) if block.language == "toml"]
    with Reader(folder, forked) as reader:
        for key in ("default", "berlin"):
            reader.follow(Block("sh", f"joule key new --name {key}"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key default"))
        for number, text in enumerate(tables):
            file = folder / "source" / f"energy{number}.toml"
            file.write_text(text)
            config = load(NodeConfig, file=file, flags={"model": MODEL})
            assert choose_energy(meter_of(config), blocks=6, size=SIZE, most_mw=10**6) is not None
        (modelled,) = [number for number, text in enumerate(tables) if "roofline" in text]
        serve = f"joule node run --config energy{modelled}.toml --model {MODEL} --blocks 0:6 --key berlin"
        reader.follow(Block("sh", f"{SERVICE}\n{serve}"))
        reader.until_ready()
        reader.follow(Block("sh", "until joule energy --key berlin; do :; done"))
        said = [out for _, out in follow(reader, page)]
        reader.stop()
    assert "cents per million" in said[0]
    assert '"source": "model"' in said[0]


@pytest.mark.long
def test_a_tariff_is_followed_as_printed(folder: Path) -> None:
    """Each file that the page shows is one that a node takes; what it would fetch is not fetched."""
    page = ROOT / "docs/how-to/follow-a-tariff.md"
    with Reader(folder, INSTALLED) as reader:
        files = [block.text for block in blocks(page) if block.language == "toml"]
        assert len(files) == 3
        for text in files:
            (folder / "source" / "tariff.toml").write_text(text)
            checked_tariff(folder / "source" / "tariff.toml", 1_900_000_000)
        (folder / "source" / "tariff.toml").write_text(files[0])
        said = [out for _, out in follow(reader, page)]
        drawn = (folder / "source" / "tariff.svg").read_text()
    assert "Europe/Berlin" in said[0]
    assert "0.2261" in said[0], "the night, with tax"
    assert drawn.startswith("<svg")


@pytest.mark.long
def test_what_a_node_earns_is_seen_as_printed(folder: Path, forked: Path) -> None:
    """After a job; the table of settings is one that a node takes."""
    page = ROOT / "docs/how-to/earn.md"
    with Reader(folder, forked) as reader:
        for key in ("default", "berlin", "tower"):
            reader.follow(Block("sh", f"joule key new --name {key}"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key default --faucet-limit 5"))
        (settings,) = [block.text for block in blocks(page) if block.language == "toml"]
        (folder / "source" / "money.toml").write_text(settings)
        serve = f"joule node run --config money.toml --model {MODEL} --blocks 0:6 --key berlin --overhead-price 20"
        reader.follow(Block("sh", f"{SERVICE}\n{serve}"))
        reader.until_ready()
        reader.follow(Block("sh", "joule faucet 5 && joule faucet 1 --key tower"))
        reader.follow(Block("sh", "joule run 'Where is Tom?' --raw --max-tokens 20"))
        # The journal has it a second later.
        reader.follow(Block("sh", "until joule earnings --key berlin --jobs | grep -q served; do :; done"))
        said = [out for _, out in follow(reader, page)]
        reader.stop()
    assert "gross $" in said[0]
    assert "measured_power_cost" in said[0]
    assert '"outcome": "served"' in said[0]
    assert "settled 0 vouchers" in said[-1]


@pytest.mark.long
def test_the_page_is_served_as_printed(folder: Path, forked: Path) -> None:
    with Reader(folder, forked) as reader:
        reader.names = {"192.0.2.7": "127.0.0.1", "--host": f"--port {free_port()} --host"}
        for _ in follow(reader, ROOT / "docs/how-to/watch.md"):
            pass
        reader.stop()


@pytest.mark.long
def test_keys_are_kept_as_printed(folder: Path) -> None:
    with Reader(folder, INSTALLED) as reader:
        for _ in follow(reader, ROOT / "docs/how-to/keys.md"):
            pass
        moved = reader.follow(
            Block("sh", f"JOULE_HOME={folder}/elsewhere/.local/share/joulemesh joule key list --json")
        )
        here = reader.follow(Block("sh", "joule key show berlin --json"))
    address = re.search(r"0x[0-9a-fA-F]{40}", here)
    assert address is not None
    assert address[0] in moved


@pytest.mark.long
def test_an_answer_with_a_standby_is_asked_for_as_printed(folder: Path, forked: Path) -> None:
    page = ROOT / "docs/how-to/survive.md"
    with Reader(folder, forked) as reader:
        for key in ("default", "node", "other"):
            reader.follow(Block("sh", f"joule key new --name {key}"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key node --faucet-limit 5"))
        for key in ("node", "other"):
            serve = f"joule node run --model {MODEL} --blocks 0:6 --key {key} --overhead-price 2"
            reader.follow(Block("sh", f"{SERVICE}\n{serve}"))
        reader.until_ready()
        reader.follow(Block("sh", "joule faucet 5"))
        said = [out for _, out in follow(reader, page)]
        listed = reader.follow(Block("sh", "joule receipt list --json"))
        reader.stop()
    assert said
    assert '"verified": true' in listed


@pytest.mark.long
def test_money_is_put_at_stake_as_printed(folder: Path, forked: Path) -> None:
    with Reader(folder, forked) as reader:
        reader.follow(Block("sh", "joule key new && joule key new --name operator"))
        reader.follow(Block("sh", f"{SERVICE}\njoule ledger run --key operator --faucet-limit 10"))
        reader.until_ready()
        reader.follow(Block("sh", "joule faucet 10"))
        said = "\n".join(out for _, out in follow(reader, ROOT / "docs/how-to/stake.md"))
        reader.stop()
    assert "$5.00 is at stake" in said
    assert "$2.50 is leaving the stake" in said


@pytest.mark.long
def test_a_model_is_measured_as_printed(folder: Path) -> None:
    with Reader(folder, INSTALLED) as reader:
        said = "\n".join(out for _, out in follow(reader, ROOT / "docs/how-to/measure-a-model.md"))
    for expected in ("accuracy x tokens a kWh", "$/h earned", "blocks may be cut anywhere"):
        assert expected in said


def test_law_is_followed_as_printed(folder: Path, forked: Path) -> None:
    page = ROOT / "docs/how-to/follow-the-law.md"
    with Reader(folder, forked) as reader:
        reader.names = {"4005": str(free_port())}
        said = "\n".join(out for _, out in follow(reader, page))
        reader.stop()
        for number, block in enumerate(block for block in blocks(page) if block.language == "toml"):
            file = folder / "source" / f"law-{number}.toml"
            file.write_text(block.text)
            if "[place]" in block.text:
                assert load(NodeConfig, file=file, flags={"model": MODEL}).anchors
            else:
                assert load(ClientConfig, file=file) != ClientConfig()
    assert "machines stand in EU" in said
    assert "@DE:50.11/8.68:100km" in re.sub(r"\s", "", said)
    assert "taken back" in said
    assert "place IR, hardware cluster" in said


@pytest.mark.long
def test_the_simulator_is_run_as_printed(folder: Path, forked: Path) -> None:
    with Reader(folder, forked, {"1008": "72"}) as reader:  # hours
        for _ in follow(reader, ROOT / "docs/how-to/simulate.md"):
            pass


@pytest.mark.long
def test_what_happened_is_replayed_as_printed(folder: Path, forked: Path) -> None:
    with Reader(folder, forked) as reader:
        said = [out for _, out in follow(reader, ROOT / "docs/how-to/replay.md")]
        reader.stop()
    traced, replayed, _, fitted = said[-4:]
    assert "gives market.price" in fitted
    assert "3 sessions of 1 sites" in traced
    assert "left out" not in traced
    rows = [line.split() for line in replayed.splitlines() if line.startswith(("fluid", "event"))]
    assert [row[3] for row in rows] == ["0.00%"] * 4  # of revenue is at other sites


def test_what_is_installed_exists() -> None:
    """Nothing is installed here: targets, extras and files are looked up, and the rest is run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    seen = 0
    for page in (ROOT / "README.md", ROOT / "docs/how-to/install.md"):
        for line in "\n".join(block.text for block in commands(page)).splitlines():
            seen += bool(line.strip())
            match shlex.split(line, comments=True):
                case ["make", target]:
                    assert target in targets, line
                case ["apt-get", "install", *packages]:
                    assert set(packages) <= SYSTEM_PACKAGES, line
                case ["pipx" | "~/joulemesh/bin/pip", "install", *arguments]:
                    _check_pip(arguments, set(project["optional-dependencies"]))
                case ["python3", "-m", "venv", _]:
                    subprocess.run(["python3", "-m", "venv", "--help"], check=True, capture_output=True)
                case ["joule", "doctor"] | []:
                    pass  # run by its own test
                case other:
                    raise AssertionError(f"nobody knows how to check {other}")
    assert seen >= 8


def _check_pip(arguments: list[str], extras: set[str]) -> None:
    """Whether what is installed is this source, with extras that it has and files that exist."""
    given = " ".join(arguments).replace("--pip-args=", "").split()
    assert set(given[:-1]) <= {"--constraint", "constraints.txt", "--editable"}
    assert (ROOT / "constraints.txt").exists()
    found = re.fullmatch(r"\.\[([a-z,]+)\]", given[-1])
    assert found is not None
    assert set(found[1].split(",")) <= extras


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_of_kinds_that_are_checked(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_no_page_suggests_a_package_that_is_not_published(page: Path) -> None:
    assert not re.search(r"install [^`\n]*joulemesh(\[|\b(?!/))", page.read_text())
