"""What a running service takes over when its settings are read again, and what it leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from node.app.process.reload import Reload
from node.config import NodeConfig
from node.events import Event, RestartNeeded, SettingsChanged, SettingsRefused
from node.settings import declared, load
from protocol.errors import ConfigurationError


class World:
    """A service that follows its settings, read from a file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "node.toml"
        self.heard: list[Event] = []
        self.followed: list[NodeConfig] = []
        self.write("")
        self.reload = Reload(self.read(), self.read, self.heard.append)
        self.reload.follow(self.followed.append)

    def write(self, text: str) -> None:
        self.file.write_text('[model]\nmodel = "m"\n' + text)

    def read(self) -> NodeConfig:
        return load(NodeConfig, file=self.file, flags={"threads": "2"})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_new_prices_are_taken_over(world: World) -> None:
    world.write("[energy]\nenergy_price = 0.5\n[price]\nmargin = 30\n")
    world.reload()
    (config,) = world.followed
    assert (config.energy_price_micro_per_kwh, config.margin_percent) == (500_000, 30)
    assert world.reload.config == config
    assert world.heard == [SettingsChanged(settings=("energy_price", "margin"))]


def test_what_counts_at_start_only_is_named_and_left(world: World) -> None:
    world.write("[energy]\npue = 2\n[network]\ndata_port = 9\n")
    world.reload()
    assert world.reload.config.pue_milli == 2_000
    assert world.reload.config.data_port == 0
    assert world.heard == [SettingsChanged(settings=("pue",)), RestartNeeded(settings=("data_port",))]
    world.reload()
    assert world.heard[2:] == [SettingsChanged(settings=()), RestartNeeded(settings=("data_port",))]


def test_a_bad_file_is_reported_and_changes_nothing(world: World) -> None:
    before = world.reload.config
    for text in ("[energy]\nenergy_price = 99\npue = 2\n", "[energy\n", "[energy]\nenergy_prise = 1\n"):
        world.write(text)
        world.reload()
    world.file.unlink()
    world.reload()
    assert world.reload.config == before
    assert world.followed == []
    assert [type(event) for event in world.heard] == [SettingsRefused] * 4


def test_settings_that_a_follower_refuses_are_refused_by_all(world: World) -> None:
    before = world.reload.config

    def refuse(config: NodeConfig) -> None:
        if config != before:
            raise ConfigurationError("no price is safe", hint="lower it")

    world.reload.follow(refuse)
    world.write("[energy]\npue = 2\n")
    world.reload()
    assert world.reload.config == before
    assert world.followed[-1] == before
    assert world.heard == [SettingsRefused(reason="no price is safe", hint="lower it")]


def test_a_flag_still_wins_when_the_file_is_read_again(world: World) -> None:
    world.write("[capacity]\nthreads = 7\n")
    world.reload()
    assert world.reload.config.threads == 2
    assert world.heard == [SettingsChanged(settings=())]


def test_prices_limits_and_the_log_level_can_change_and_nothing_else() -> None:
    assert {each.name for each in declared(NodeConfig) if each.reloadable} == {
        "energy_price",
        "pue",
        "carbon_g_per_kwh",
        "overhead_price",
        "capital_price",
        "margin",
        "opening_price",
        "cached_price",
        "draft_depth",
        "late_discount",
        "credit",
        "max_sessions",
        "window",
        "stretch",
        "wait",
        "warm_s",
        "log_level",
        *("carbon_price", "hardware_price", "margin_policy", "pause_above", "power_cap", "requote_above", "requote_s"),
        *("target_use", "undercut"),
    }
    assert {field.name for field in dataclasses.fields(NodeConfig)} == {each.field for each in declared(NodeConfig)}
