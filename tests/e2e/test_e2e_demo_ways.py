"""`joule demo --kill`, `--wan` and `--venue evm`, as a person runs them: real processes, money and deaths."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from anvil_chain import why_no_anvil
from click.testing import CliRunner

from node.cli.entry import joule
from node.demo.local_chain import LocalChain
from node.demo.wan import Wan
from protocol.errors import ConfigurationError, LocalError

pytestmark = pytest.mark.slow

DEMO_S = 240


def demo(tools: Path, folder: Path, *arguments: str, status: int = 0) -> Any:
    """What a demo prints as JSON."""
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = [tools / "joule", "demo", *arguments, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEMO_S, check=False)
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_the_route_follows_the_hour(short_folder: Path, forked: Path) -> None:
    """At noon the sun shines in Berlin; in the evening power is dear there and in Lyon, and not in Reykjavik."""
    taken = {}
    for hour in ("11", "18"):
        sites = demo(forked, short_folder, "--hour", hour)["power"]
        assert all((site["taken"] is None) is bool(site["reason"]) for site in sites)
        taken[hour] = {site["name"]: site["taken"] for site in sites}
    assert taken["11"] == {"berlin": "2:6", "reykjavik": "0:2", "lyon": None}
    assert taken["18"] == {"reykjavik": "0:4", "lyon": "4:6", "berlin": None}


@pytest.mark.long
def test_hour_and_law_decide_together(short_folder: Path, forked: Path) -> None:
    """In the evening the route goes through Reykjavik, but not where prompts may not leave the EU."""
    report = demo(forked, short_folder, "--hour", "18", "--policy", "eu-only")
    assert report["by_law"]["route"] == ["lyon (FR)"]
    assert {site["name"]: site["taken"] for site in report["power"]}["reykjavik"] is None
    assert report["verified"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--wan", "--kill"], "--kill"),
        (["--wan", "--venue", "evm"], "--venue evm"),
        (["--kill", "--policy", "eu-only", "--venue", "evm"], "--policy"),
        (["--kill", "--hour", "3"], "--hour"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(flags: list[str], named: str) -> None:
    done = CliRunner().invoke(joule, ["demo", *flags])
    assert done.exit_code == 2
    assert f"does not go with {named}: " in done.output


@pytest.mark.long
@pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())
def test_a_node_dies_and_a_chain_pays(short_folder: Path, forked: Path) -> None:
    report = demo(forked, short_folder, "--kill", "--venue", "evm")
    assert report["killed"]["replaced"]
    assert report["killed"]["same_answer"]
    assert {"open", "settle"} <= {each["operation"] for each in report["transactions"]}
    assert report["verified"]


def no_hosts() -> ConfigurationError | None:
    """Why this system gives no hosts with a distance between them; None where it does."""
    try:
        with Wan(("somewhere",), round_trip_s=0.001):
            return None
    except ConfigurationError as error:
        return error


def test_a_node_that_is_killed_changes_no_word_and_is_paid_for_what_it_proved(short_folder: Path, forked: Path) -> None:
    report = demo(forked, short_folder, "--kill")
    killed, legs, (healed,) = report["killed"], report["legs"], report["healed"]
    assert killed == {
        "leg": 1,
        "name": "berlin",
        "tokens": report["tokens_out"] // 2,
        "replaced": True,
        "same_answer": True,
    }
    assert (healed["gone"], healed["joined"]) == ([1], [3])
    assert healed["tokens"] >= killed["tokens"]
    assert 0 <= healed["seconds"] <= healed["silent_s"]
    assert [leg["blocks"] for leg in legs] == ["0:2", "2:4", "4:6", "2:4"]
    base, end = healed["position"], report["tokens_in"] + report["tokens_out"] - 1
    assert [leg["served"] for leg in legs] == [f"0:{end}", f"0:{base}", f"0:{end}", f"{base}:{end}"]
    assert legs[3]["replayed"] == base
    assert 0 < legs[3]["replayed_micro"] < legs[3]["paid_micro"]
    assert legs[1]["paid_micro"] > 0
    spent = report["balance_before_micro"] - report["balance_after_micro"]
    assert spent == report["paid_micro"] + report["fees_micro"] + report["held_micro"]
    assert report["held_micro"] == legs[1]["held_micro"] > 0, "the dead give nothing up"
    assert report["verified"]
    assert report["audit"]["verdict"] == "match"
    assert list(short_folder.glob("joulemesh-*")) == []


@pytest.mark.long
def test_an_answer_without_a_middle_is_told_in_a_line(short_folder: Path, forked: Path) -> None:
    told = demo(forked, short_folder, "17 + 25 =", "--kill", status=1)
    assert told["code"] == "short-answer"
    assert list(short_folder.glob("joulemesh-*")) == []


@pytest.mark.long
def test_a_demo_over_distances_counts_round_trips(short_folder: Path, forked: Path) -> None:
    problem = no_hosts()
    if problem is not None:
        assert demo(forked, short_folder, "--wan", status=1)["code"] == problem.code
        pytest.skip(problem.message)
    report = demo(forked, short_folder, "--wan")
    first = report["ways"][0]
    assert first["seconds_to_first_token"] > first["seconds_to_open"] > first["round_trip_s"] > 0
    # A token goes round three legs, half a round trip each: faster than light it does not come.
    assert 0 < first["tokens_per_second"] < 1 / (1.5 * first["round_trip_s"])
    assert all(way["same_answer"] for way in report["ways"])
    assert report["verified"]


@pytest.mark.long
@pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())
def test_a_chain_of_the_demos_own_settles_the_job(short_folder: Path, forked: Path) -> None:
    report = demo(forked, short_folder, "--venue", "evm")
    sent = report["transactions"]
    assert [each["operation"] for each in sent] == ["approve", "deposit", "open", "settle", "release"]
    assert all(20_000 < each["gas"] < 200_000 for each in sent)
    assert ["0x" + each["transaction"].removeprefix("0x") for each in sent[2:]] == report["places"]
    assert report["verified"]
    assert report["audit"]["verdict"] == "match"
    spent = report["balance_before_micro"] - report["balance_after_micro"]
    assert spent == report["paid_micro"] == sum(leg["paid_micro"] for leg in report["legs"]) > 0
    assert report["fees_micro"] == 0
    assert list(short_folder.glob("joulemesh-*")) == []


@pytest.mark.asyncio
async def test_a_machine_without_a_test_chain_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOULE_ANVIL", str(tmp_path / "nothing"))
    with pytest.raises(LocalError, match="no anvil") as refused:
        await LocalChain.start(tmp_path)
    assert refused.value.code == "no-anvil"
    assert "make contracts" in refused.value.hint
