from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ..lacking import program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def config(deploy: Path) -> Path:
    return deploy / "prometheus" / "prometheus.yml"


def test_promtool_finds_nothing(config: Path) -> None:
    run = subprocess.run(
        [program("promtool", "prometheus"), "check", "config", "--lint-fatal", config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_it_scrapes_the_http_port_of_the_compose_services_server(config: Path, compose: dict[str, Any]) -> None:
    (job,) = yaml.safe_load(config.read_text())["scrape_configs"]
    (target,) = [target for each in job["static_configs"] for target in each["targets"]]
    host, _, port = target.partition(":")
    assert f"--http-listen=0.0.0.0:{port}" in compose["services"][host]["command"]
    assert job["metrics_path"] == "/metrics"
