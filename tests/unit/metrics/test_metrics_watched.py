"""The shipped alerts and board ask for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "scripts" / "observability"
PAGE = ROOT / "docs" / "how-to" / "metrics.md"
COUNTED = (ROOT / "node" / "metrics" / "counting.py").read_text()
SUFFIX = re.compile(r"_(total|bucket|count|sum)$")


def metrics_in(text: str) -> set[str]:
    return {SUFFIX.sub("", name) for name in re.findall(r"\bjoulemesh_[a-z_]+\b", text)}


def expressions() -> list[str]:
    rules = [
        rule for group in yaml.safe_load((SHIPPED / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
    ]
    assert all(rule["annotations"]["summary"] and rule["annotations"]["what"] for rule in rules)
    panels = json.loads((SHIPPED / "grafana.json").read_text())["panels"]
    return [rule["expr"] for rule in rules] + [target["expr"] for panel in panels for target in panel["targets"]]


def test_what_is_asked_for_is_counted_and_described() -> None:
    asked = metrics_in("\n".join(expressions()))
    counted = {f"joulemesh_{name}" for name in re.findall(r'_(?:count|set|time)\("([a-z_]+)"', COUNTED)}
    counted |= metrics_in(COUNTED) | {f"joulemesh_{name}" for name in re.findall(r'self\._time\("([a-z_]+)"', COUNTED)}
    assert asked, "nothing is watched"
    assert asked - counted - {"joulemesh_node_jobs", "joulemesh_node_tokens"} == set()
    assert asked <= metrics_in(PAGE.read_text())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool (Debian: apt-get install prometheus)")
def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", SHIPPED / "alerts.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
