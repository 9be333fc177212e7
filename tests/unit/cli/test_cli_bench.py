"""`joule bench`: figures that fit one another, and what cannot be measured is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node import demo

DEMO = Path(demo.__file__).parent / "model"
QUICK = ("--seconds", "0", "--batches", "1,3", "--context", "20")
Joule = Callable[..., Any]


def test_a_model_is_measured_in_each_precision(joule: Joule, tmp_path: Path) -> None:
    picture = tmp_path / "worth.svg"
    found = joule("bench", "model", str(DEMO), *QUICK, "--precisions", "int4,fp32", "--plot", str(picture), "--json")
    assert found.status == 0, found.err
    int4, fp32 = found.json["precisions"]
    assert (int4["precision"], fp32["precision"]) == ("int4", "fp32")
    assert fp32["worth"]["divergence_micronats"] is None
    assert int4["worth"]["divergence_micronats"] > 0
    assert 33 < fp32["worth"]["right"] <= fp32["worth"]["questions"]
    assert (
        fp32["worth"]["low_ppm"] < 1e6 * fp32["worth"]["right"] / fp32["worth"]["questions"] < fp32["worth"]["high_ppm"]
    )
    assert fp32["kv_bytes"] == 2 * 3 * 32 * 6 * 4
    for pace in fp32["paces"]:
        assert pace["tokens_per_kwh"] == 3_600_000_000_000 // pace["microjoules"]
    assert [each["batch"] for each in fp32["paces"]] == [1, 3]
    assert picture.read_text().startswith("<svg")


@pytest.mark.long
def test_a_declared_figure_is_taken_as_it_is(joule: Joule) -> None:
    shown = joule("bench", "model", str(DEMO), *QUICK, "--precisions", "bf16", "--joules-per-token", "0.25")
    assert shown.status == 0
    assert "| bf16 | 3 |" in shown.out
    assert "| 0.25 | 14,400,000 |" in shown.out


def test_products_are_sorted_by_what_they_earn(joule: Joule) -> None:
    told = ("--energy-price", "0.40", "--margin", "50", "--joules-per-token", "2", "--kv-tokens", "64")
    found = joule("bench", "node", "--model", str(DEMO), *QUICK, *told, "--json")
    assert found.status == 0, found.err
    products = found.json["products"]
    assert {each["blocks"] for each in products} == {"0:6", "0:3", "3:6"}
    assert {each["precision"] for each in products} == {"fp32", "bf16"}
    assert all(each["sessions"] == 2 and each["offered_microjoules"] == 2_000_000 for each in products)
    earned = [each["takings"] - each["power_cost"] for each in products]
    assert earned == sorted(earned, reverse=True)
    assert all(each["ask"] >= 1.5 * 0.40 * 2e6 / 3.6 for each in products)
    shown = joule("bench", "node", "--model", str(DEMO), "--blocks", "0:1", *QUICK, *told)
    assert "3 (room for 2)" in shown.out


def test_what_cannot_be_measured_is_said(joule: Joule, tmp_path: Path) -> None:
    assert joule("bench", "model", str(tmp_path)).status == 1
    assert joule("bench", "model", str(DEMO), "--precisions", "int3").status == 1
    assert joule("bench", "model", str(DEMO), "--batches", "0").status == 2
    assert joule("bench", "node", "--model", str(DEMO), "--blocks", "4:9").status == 1
    refused = joule("bench", "model", str(DEMO), *QUICK, "--precisions", "fp32", "--plot", str(tmp_path / "a.png"))
    assert refused.status == 1
