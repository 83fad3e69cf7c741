from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path

OLDEST = "1.31"
"""The oldest Kubernetes that the manifests are checked against; preStop.sleep is beta there, and on."""


@pytest.fixture(scope="module")
def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


@pytest.fixture(scope="module")
def server(pod: dict[str, Any]) -> dict[str, Any]:
    (server,) = pod["containers"]
    assert isinstance(server, dict)
    return server


@pytest.fixture(scope="module")
def manifests(deploy: Path) -> dict[str, dict[str, Any]]:
    """Every manifest of the GPU variant, by file name."""
    folder = deploy / "kubernetes" / "gpu"
    return {path.name: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}


@pytest.fixture(scope="module")
def without_gpu(deploy: Path, deployment: dict[str, Any]) -> dict[str, Any]:
    """The Deployment as the CPU variant makes it."""
    overlay = yaml.safe_load((deploy / "kubernetes" / "cpu" / "kustomization.yaml").read_text())
    made = copy.deepcopy(deployment)
    (patch,) = overlay["patches"]
    assert patch["target"] == {"kind": made["kind"], "name": made["metadata"]["name"]}
    for step in yaml.safe_load(patch["patch"]):
        assert step["op"] == "remove"
        remove(made, step["path"])
    return made


def remove(document: Any, pointer: str) -> None:
    """Removes the value at a JSON pointer (RFC 6901); raises KeyError or IndexError if there is none."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    del document[int(last) if isinstance(document, list) else last]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_every_manifest_fits_the_schemas(
    manifests: dict[str, dict[str, Any]], without_gpu: dict[str, Any], version: str
) -> None:
    documents = [each for each in manifests.values() if each["kind"] != "Kustomization"]
    assert len(documents) >= 3
    for document in [*documents, without_gpu]:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_refuse_a_field_that_is_not_there(deployment: dict[str, Any]) -> None:
    wrong = copy.deepcopy(deployment)
    wrong["spec"]["template"]["spec"]["terminationGrace"] = 45
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_kustomization_lists_every_manifest(manifests: dict[str, dict[str, Any]]) -> None:
    listed = manifests["kustomization.yaml"]["resources"]
    assert sorted([*listed, "kustomization.yaml"]) == sorted(manifests)


def test_the_gpu_is_asked_for_and_the_cpu_variant_asks_for_none(
    server: dict[str, Any], without_gpu: dict[str, Any]
) -> None:
    assert server["resources"]["limits"]["nvidia.com/gpu"] == server["resources"]["requests"]["nvidia.com/gpu"] == "1"
    assert "nvidia" not in yaml.safe_dump(without_gpu)


def test_ports_are_those_that_the_command_listens_on(
    deployment: dict[str, Any], server: dict[str, Any], service: dict[str, Any]
) -> None:
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert f"--listen=0.0.0.0:{ports['grpc']}" in server["args"]
    assert f"--http-listen=0.0.0.0:{ports['http']}" in server["args"]
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["http"])


def test_probes_ask_for_the_health_of_the_whole_server(server: dict[str, Any]) -> None:
    for probe in ("startupProbe", "readinessProbe"):
        assert server[probe]["grpc"] == {"port": 8500}
    assert server["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}


def test_there_is_time_for_the_calls_under_way(pod: dict[str, Any], server: dict[str, Any]) -> None:
    from fluoroscope_server.settings import Settings

    needed = server["lifecycle"]["preStop"]["sleep"]["seconds"] + Settings(models=()).grace_seconds
    assert pod["terminationGracePeriodSeconds"] > needed


def test_the_user_is_that_of_the_image(pod: dict[str, Any], instructions: list[tuple[str, str]]) -> None:
    (user,) = [text for keyword, text in instructions if keyword == "USER"]
    context = pod["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["runAsNonRoot"]


def test_all_that_is_written_has_a_volume(
    pod: dict[str, Any], server: dict[str, Any], image_compile_cache: Path
) -> None:
    assert server["securityContext"]["readOnlyRootFilesystem"]
    empty = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    writable = {mount["mountPath"] for mount in server["volumeMounts"] if mount["name"] in empty}
    assert writable == {"/tmp", "/var/cache/fluoroscope"}
    assert image_compile_cache.is_relative_to("/var/cache/fluoroscope")


def test_the_volume_holds_all_the_programs_that_the_server_keeps(pod: dict[str, Any]) -> None:
    from fluoroscope_server.settings import Settings

    (limit,) = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "programs"]
    assert int(limit.removesuffix("Gi")) << 30 > Settings(models=()).compile_cache_bytes  # who exceeds it is evicted


def test_mounts_and_volumes_agree(pod: dict[str, Any], server: dict[str, Any]) -> None:
    assert {mount["name"] for mount in server["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_service_is_headless_and_selects_the_pods(deployment: dict[str, Any], service: dict[str, Any]) -> None:
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
