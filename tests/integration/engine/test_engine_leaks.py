"""What attacks tell from the rows between legs: of the bundled model as its figures say, and nothing of noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from node.app.buying.audit import BUNDLED_MODEL
from node.app.models.leaks import keep_leaks, known_leaks, measure_leaks
from node.cli.entry import joule
from node.engine.engine import Engine
from node.engine.leaks import cuts_of, directions_of, guesses_at, room_for
from node.model_directory import HashMemory, held_manifest
from protocol.errors import ConfigurationError

ROOT = held_manifest(BUNDLED_MODEL).root


def test_the_bundled_figures_are_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = known_leaks(ROOT, tmp_path)
    monkeypatch.setenv("JOULE_HOME", str(tmp_path))
    done = CliRunner().invoke(joule, ["model", "leaks", str(BUNDLED_MODEL)])
    assert done.exit_code == 0, done.output
    assert "14.6 % by always saying the commonest" in done.output
    assert "5  block 4" in done.output
    (tmp_path / "leaks" / f"{ROOT.hex()}.json").rename(tmp_path / "found.json")
    assert known_leaks(ROOT, tmp_path) == shipped, "nothing of ours is left"
    (tmp_path / "found.json").rename(tmp_path / "leaks" / f"{ROOT.hex()}.json")
    found = known_leaks(ROOT, tmp_path)
    assert found is not None
    assert shipped is not None
    assert replace(found, cuts=()) == replace(shipped, cuts=())
    assert [each.cut for each in found.cuts] == [0, 1, 2, 3, 4, 5]
    for mine, said in zip(found.cuts, shipped.cuts, strict=True):
        for one, other in zip(mine.attacks, said.attacks, strict=True):
            assert (one.attack, one.of) == (other.attack, other.of)
            assert one.recovered == pytest.approx(other.recovered, abs=5), "machines round differently"
    assert all(each.attacks[-1].recovered == each.attacks[-1].of for each in found.cuts), "search tells all"
    assert found.at(9) == found.cuts[-1]


def test_of_noise_nothing_is_told() -> None:
    engine = Engine.load(BUNDLED_MODEL, 0, 2, kv_tokens=room_for([0, 1]))
    noise = np.random.default_rng(1)
    rows, seen = noise.normal(size=(6, 192)).astype("f4"), noise.normal(size=(300, 192)).astype("f4")
    truth, known = noise.integers(1, 500, 6), noise.integers(1, 500, 300)
    for guesses in guesses_at(engine, 1, rows, seen, known, directions_of(engine)).values():
        assert (guesses == truth).sum() <= 1


def test_what_was_measured_is_kept_and_a_broken_file_counts_as_none(tmp_path: Path) -> None:
    shipped = known_leaks(ROOT, tmp_path)
    assert shipped is not None
    other = replace(shipped, name="another", roots={"fp32": bytes(32)})
    assert known_leaks(bytes(32), tmp_path) is None
    keep_leaks(other, tmp_path)
    assert known_leaks(bytes(32), tmp_path) == other
    file = tmp_path / "leaks" / f"{bytes(32).hex()}.json"
    for broken in ("", "[]", "{}", json.dumps({**json.loads(file.read_text()), "cuts": [{}]})):
        file.write_text(broken)
        assert known_leaks(bytes(32), tmp_path) is None


def test_a_text_that_is_too_short_tells_nothing(tmp_path: Path) -> None:
    sample = tmp_path / "short.txt"
    sample.write_text("Hello.")
    with pytest.raises(ConfigurationError, match="tokens tell nothing"):
        measure_leaks(BUNDLED_MODEL, sample, HashMemory(tmp_path / "hashes.json"))


@pytest.mark.parametrize(("blocks", "count"), [(1, 1), (2, 2), (3, 3), (17, 17), (80, 17)])
def test_of_a_deep_model_some_cuts_are_looked_at(blocks: int, count: int) -> None:
    cuts = cuts_of(blocks)
    assert (len(cuts), cuts[0]) == (count, 0)
    assert blocks < 2 or (cuts[1], cuts[-1]) == (1, blocks - 1)
