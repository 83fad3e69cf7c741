from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def server(compose: dict[str, Any]) -> dict[str, Any]:
    server: dict[str, Any] = compose["services"]["server"]
    return server


def test_it_builds_the_dockerfile_from_the_root_of_the_repository(
    server: dict[str, Any], deploy: Path, repository: Path
) -> None:
    context = (deploy / server["build"]["context"]).resolve()
    assert context == repository
    assert (context / server["build"]["dockerfile"]).samefile(deploy / "Dockerfile")
    assert server["image"] == f"fluoroscope:{server['build']['args']['ACCELERATOR']}"


def test_published_ports_are_those_that_the_command_listens_on(
    server: dict[str, Any], instructions: list[tuple[str, str]]
) -> None:
    listening = {flag.rpartition(":")[2] for flag in server["command"] if "listen=" in flag}
    assert {port.split(":")[-1] for port in server["ports"]} == listening
    assert set(next(text for keyword, text in instructions if keyword == "EXPOSE").split()) == listening


def test_nothing_is_published_beyond_this_machine(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_model_is_served_from_the_folder_that_is_mounted(server: dict[str, Any]) -> None:
    (model,) = [flag for flag in server["command"] if flag.startswith("--model=")]
    path = model.rpartition("=")[2]
    mounts = [volume.removesuffix(":ro").rpartition(":")[2] for volume in server["volumes"] if volume.endswith(":ro")]
    assert any(path.startswith(f"{mount}/") for mount in mounts)


def test_the_compile_cache_is_in_a_volume(server: dict[str, Any], image_compile_cache: Path) -> None:
    (place,) = [volume.partition(":")[2] for volume in server["volumes"] if volume.startswith("programs:")]
    assert image_compile_cache.is_relative_to(place)


def test_volumes_with_a_name_are_declared(compose: dict[str, Any]) -> None:
    sources = [volume.split(":")[0] for each in compose["services"].values() for volume in each["volumes"]]
    named = {source for source in sources if re.fullmatch(r"\w+", source)}
    assert named == compose["volumes"].keys()


def test_prometheus_reads_the_config_that_is_mounted(compose: dict[str, Any], deploy: Path) -> None:
    prometheus = compose["services"]["prometheus"]
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in prometheus["volumes"])
    (config,) = [flag.partition("=")[2] for flag in prometheus["command"] if flag.startswith("--config.file=")]
    (source,) = [source for source, target in mounts.items() if config.startswith(f"{target}/")]
    assert (deploy / source / config.removeprefix(f"{mounts[source]}/")).is_file()


def test_the_gpu_file_changes_the_server_only(compose: dict[str, Any], deploy: Path) -> None:
    gpu = yaml.safe_load((deploy / "compose.gpu.yaml").read_text())
    assert gpu.keys() == {"services"}
    assert gpu["services"].keys() == {"server"} <= compose["services"].keys()
    server = gpu["services"]["server"]
    assert server["image"] == f"fluoroscope:{server['build']['args']['ACCELERATOR']}"
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
