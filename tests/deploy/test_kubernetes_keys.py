"""The component that adds TLS and tokens, applied to the Deployment."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def keyed(deploy: Path, deployment: dict[str, Any]) -> dict[str, Any]:
    """The Deployment as the component makes it."""
    return patched(deploy, deployment)


@pytest.fixture(scope="module")
def keyed_service(deploy: Path, service: dict[str, Any]) -> dict[str, Any]:
    """The Service as the component makes it."""
    return patched(deploy, service)


def patched(deploy: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Returns a document with the patch of the component that is meant for it."""
    component = yaml.safe_load((deploy / "kubernetes" / "keys" / "kustomization.yaml").read_text())
    made = copy.deepcopy(document)
    target = {"kind": made["kind"], "name": made["metadata"]["name"]}
    (patch,) = [each["patch"] for each in component["patches"] if each["target"] == target]
    for step in yaml.safe_load(patch):
        apply(made, step)
    return made


def apply(document: Any, step: dict[str, Any]) -> None:
    """Applies one step of a JSON patch (RFC 6902)."""
    *parents, last = step["path"].split("/")[1:]
    for part in parents:
        document = document[int(part) if isinstance(document, list) else part]
    if step["op"] == "remove":
        del document[last]
    elif last == "-":
        document.append(step["value"])
    else:
        assert step["op"] == "add"
        assert last not in document
        document[last] = step["value"]


def test_it_fits_the_schemas(keyed: dict[str, Any], keyed_service: dict[str, Any]) -> None:
    for document in (keyed, keyed_service):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_mounted_and_every_mount_has_its_secret(keyed: dict[str, Any]) -> None:
    pod = keyed["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    files = {flag: value for flag, _, value in (each.partition("=") for each in server["args"]) if "/keys/" in value}
    assert set(files) == {"--tls-certificate", "--tls-key", "--tokens"}
    mounts = {each["mountPath"]: each["name"] for each in server["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["volumes"]}
    for path in files.values():
        secret = volumes[mounts[path.rpartition("/")[0]]]["secret"]
        assert secret["defaultMode"] & 0o022 == 0, "the server takes no tokens that others can write to"
    run = subprocess.run(
        [sys.executable, "-m", "fluoroscope_server", "serve", "--help"], capture_output=True, text=True, check=True
    )
    assert [flag for flag in files if flag not in run.stdout] == []


def test_nobody_is_told_that_the_port_is_cleartext(service: dict[str, Any], keyed_service: dict[str, Any]) -> None:
    assert "appProtocol: kubernetes.io/h2c" in yaml.safe_dump(service)
    assert "appProtocol" not in yaml.safe_dump(keyed_service)


def test_probes_need_no_certificate(keyed: dict[str, Any]) -> None:
    (server,) = keyed["spec"]["template"]["spec"]["containers"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert "grpc" not in server[name]
        assert server[name]["httpGet"]["port"] == "http"
