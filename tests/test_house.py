"""What must be in two places is in both: each test here names the place that was forgotten."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import grpc
import grpc.aio
import jax.numpy as jnp
import numpy as np
import pytest

import fluoroscope
from fluoroscope import calls
from fluoroscope.calls.reduction import FROM_WIRE
from fluoroscope.cli import main
from fluoroscope.cli.columns import columns_of
from fluoroscope.cli.edit import WORDS as EDIT_WORDS
from fluoroscope.cli.edit import read_edits
from fluoroscope.cli.reduction import FORMS, read_reductions
from fluoroscope.v1 import inference_pb2, inspection_pb2, model_pb2, tensor_pb2
from fluoroscope.wire import DTYPES, dtype_from_wire
from fluoroscope_server.configuration import OTHERS
from fluoroscope_server.engine.change import _COMPUTED
from fluoroscope_server.engine.edit import Change
from fluoroscope_server.engine.placing import _OPERATIONS
from fluoroscope_server.engine.plan import Operation
from fluoroscope_server.families.catalogue import BUILTIN
from fluoroscope_server.metrics import STAGES, Metrics
from fluoroscope_server.rpc import RpcServer
from fluoroscope_server.rpc.decoding import KINDS
from fluoroscope_server.rpc.edit import CHANGES
from fluoroscope_server.rpc.gradient import OBJECTIVES
from fluoroscope_server.rpc.open_inference.inference import open_inference_pb2
from fluoroscope_server.rpc.reduction import REDUCTIONS, SUMMARIES
from fluoroscope_server.serving import Repository, presets
from fluoroscope_server.settings import Settings

WORDS = tuple({"quantiles": "quantiles:0.5", "topk": "topk:1"}.get(name, name) for name in FORMS)
NEEDS = {"set": "to=1", "add": "by=1", "scale": "by=1", "patch": "row=0"}
EDITS = (*(f"{word} Dense_0 {NEEDS.get(word, '')}" for word in EDIT_WORDS), "patch Dense_0 x=1")
ROOT = Path(__file__).resolve().parent.parent
FILES: list[Any] = [inference_pb2, inspection_pb2, model_pb2, open_inference_pb2]
METHODS = [
    f"/{service.full_name}/{method.name}"
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


def camel(name: str) -> str:
    return "".join(map(str.capitalize, name.split("_")))


def test_every_rpc_of_the_contract_is_served() -> None:
    async def unimplemented() -> list[str]:
        server = RpcServer(Repository(), Metrics(), Settings(models=()))
        address = await server.start("127.0.0.1:0")
        missing = []
        async with grpc.aio.insecure_channel(address) as channel:
            for method in METHODS:
                call: Any = channel.unary_stream(method)
                try:
                    [answer async for answer in call(b"")]
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        missing.append(method)
        await server.drain(0)
        return missing

    import asyncio

    assert METHODS
    assert asyncio.run(unimplemented()) == []


def test_every_reduction_of_the_contract_is_computed_and_can_be_asked_for() -> None:
    contract = {field.name for field in inspection_pb2.Reduction.DESCRIPTOR.oneofs_by_name["reduction"].fields}
    assert set(REDUCTIONS) == contract, "each needs a row in the server's table"
    assert set(FROM_WIRE) == contract, "each needs a row in the client's table"
    assert set(map(camel, contract)) <= set(fluoroscope.__all__)
    assert contract == {reduction.message().WhichOneof("reduction") for reduction in read_reductions(WORDS)}
    page = (ROOT / "docs/inspecting.md").read_text()
    assert [name for name in FORMS if f"`{name}" not in page] == [], "each needs a row in docs/inspecting.md"


@pytest.mark.parametrize("face", [fluoroscope.Client, fluoroscope.AsyncClient])
def test_every_rpc_of_the_contract_can_be_called(face: type) -> None:
    contract = {method for method in METHODS if method.startswith("/fluoroscope.v1.")}
    names = {getattr(face, name).__name__ for name in dir(face) if name[0] != "_"}
    operations: list[Any] = [getattr(calls, name) for name in names if hasattr(calls, name)]
    asked = {path for each in operations for path in re.findall(r'method="(/[^"]+)"', inspect.getsource(each))}
    assert contract <= asked, "each needs a function in the client's calls/, and a row in each face"


def test_every_edit_of_the_contract_is_made_and_can_be_asked_for() -> None:
    contract = {field.name for field in inspection_pb2.Edit.DESCRIPTOR.oneofs_by_name["change"].fields}
    assert set(CHANGES) == contract, "each needs a row in the server's table"
    assert {kind.__name__ for kind in get_args(Change)} == set(map(camel, contract)), "each needs a class in the engine"
    assert set(_OPERATIONS) == set(get_args(Change)), "each needs its operation in engine/placing.py"
    assert set(_OPERATIONS.values()) == set(Operation) == set(_COMPUTED), "each needs its code in engine/change.py"
    assert set(map(camel, contract)) <= set(fluoroscope.__all__)
    nobody: Any = None
    forms = read_edits(nobody, nobody, EDITS)
    written = {form.edit(None).message().WhichOneof("change") for form in forms}
    assert written == contract, "each needs a row in the command line's table"
    page = (ROOT / "docs/inspecting.md").read_text()
    assert [name for name in EDIT_WORDS if f"`{name} " not in page] == [], "each needs a row in docs/inspecting.md"


def test_every_objective_of_the_contract_can_be_differentiated() -> None:
    contract = {field.name for field in inspection_pb2.Gradient.DESCRIPTOR.oneofs_by_name["objective"].fields}
    assert set(OBJECTIVES) == contract == {objective.value for objective in OBJECTIVES.values()}


def test_every_summary_of_the_contract_is_sent() -> None:
    contract = {field.name for field in inspection_pb2.Summary.DESCRIPTOR.oneofs_by_name["summary"].fields}
    assert {kind.__name__.removeprefix("Site").lower() for kind in SUMMARIES} == contract
    shown = {kind.__name__ for kind in columns_of.registry}
    assert {f"Site{camel(name)}" for name in contract} <= shown, "each needs its columns in the command line"


def test_every_reduction_of_the_contract_can_be_in_a_preset() -> None:
    assert set(presets.REDUCTIONS) == set(REDUCTIONS)


def test_every_kind_of_site_is_known_to_both_sides() -> None:
    contract = {value.number for value in inspection_pb2.SiteKind.DESCRIPTOR.values if value.number}
    assert set(KINDS) == contract
    names = {value.name for value in inspection_pb2.SiteKind.DESCRIPTOR.values if value.number}
    assert {f"SITE_KIND_{kind.name}" for kind in fluoroscope.SiteKind if kind.name != "UNKNOWN"} == names


@pytest.mark.parametrize("number", [value.number for value in tensor_pb2.DataType.DESCRIPTOR.values if value.number])
def test_every_data_type_of_the_contract_has_a_dtype(number: int) -> None:
    name = tensor_pb2.DataType.Name(number).removeprefix("DATA_TYPE_").lower()  # type: ignore[arg-type]  # one of its values
    assert dtype_from_wire(number).name == name


LACKING = frozenset({"float6_e2m3fn", "float6_e3m2fn", "int1", "uint1"})
"""Types of JAX that the contract lacks: few backends compute with them, and a site of one says why it has no value."""


def test_every_data_type_of_jax_is_in_the_contract_or_known_to_be_lacking() -> None:
    jaxs = {np.dtype(each).name for each in vars(jnp).values() if isinstance(each, type(jnp.float32))}
    contract = {dtype.name for dtype in DTYPES.values()}
    assert {"float32", "int4"} <= jaxs
    assert jaxs - contract <= LACKING, (
        "each needs a value in tensor.proto and a row in the client's table, or to be LACKING"
    )
    assert not LACKING & contract


def test_every_variable_of_the_client_may_be_there_when_a_server_starts() -> None:
    commands = [main, *main.commands.values()]
    assert {option.envvar for command in commands for option in command.params if option.envvar} == OTHERS


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    exported = {
        name
        for family in Metrics().registry.collect()
        if (name := _exported_name(family.name, family.type)).startswith(("fluoroscope_", "grpc_server_"))
    }
    text = (ROOT / "docs/metrics.md").read_text()
    documented = set(re.findall(r"^(?:\| )?`((?:fluoroscope|grpc_server)_\w+)`", text, re.MULTILINE))
    assert documented == exported


def _exported_name(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def test_every_stage_of_every_method_is_documented_in_its_order() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    (table,) = re.findall(r"^\| stage \|.*\n(?:\|.*\n)+", text, re.MULTILINE)
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    columns = {name: tuple(row[0].strip("`") for row in rows if row[place]) for place, name in enumerate(head)}
    del columns["stage"], columns["what happens"]
    assert columns == STAGES, "each method needs its column, and each of its stages a row"


def test_every_builtin_family_is_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert [name for name in BUILTIN if f"`{name}`" not in text] == []


def test_the_drawing_of_the_house_has_the_floors_that_are_enforced() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each.get("containers") == ["fluoroscope_server"]]
    text = (ROOT / "docs/architecture.md").read_text()
    (drawing,) = re.findall(r"^```\n(__main__\n.*?)^--- client package", text, re.MULTILINE | re.DOTALL)
    assert [re.split("  +", line)[0].replace("/", "") for line in drawing.splitlines()] == layers


def test_every_dependency_says_what_it_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)
    groups = [project["project"]["dependencies"], project["project"]["optional-dependencies"]["server"]]
    for requirement in (each for group in groups for each in group):
        (line,) = [line for line in text.splitlines() if f'"{requirement}"' in line]
        assert re.search(r"#.*\w{3,}", line), f"say in pyproject.toml what {requirement} is for"


def test_the_lock_file_names_no_index_and_hashes_everything() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if re.search(r"://|--(extra-)?index|--find-links", line)] == []
    requirements = [index for index, line in enumerate(lines) if re.match(r"[a-z0-9._-]+==", line, re.IGNORECASE)]
    assert requirements
    assert [lines[index] for index in requirements if "--hash=sha256:" not in lines[index + 1]] == []


def test_the_generators_versions_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (generator,) = [each for each in project["dependency-groups"]["dev"] if each.startswith("grpcio-tools==")]
    assert f"grpcio>={generator.partition('==')[2]}" in project["project"]["dependencies"]
    gencode = (ROOT / "client/fluoroscope/v1/tensor_pb2.py").read_text()
    (runtime,) = re.findall(r"Protobuf Python Version: (\S+)", gencode)
    assert f"protobuf>={runtime}" in project["project"]["dependencies"]


SOURCES = [
    path
    for folder in ("client", "server", "tests", "benchmarks", "examples", "proto")
    for path in (ROOT / folder).rglob("*.py")
]
EXCEPTION = re.compile(r"# (?:type: ignore\[(?P<types>[\w, -]+)\]|noqa: (?P<rules>[A-Z0-9, ]+?))(?P<reason> .*)?$")


def test_every_exception_from_the_linters_says_why() -> None:
    """Or an earlier one in the same file has said it for those below."""
    silent, count = [], 0
    for path in SOURCES:
        said: set[str] = set()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "_pb2" in path.name or (found := EXCEPTION.search(line)) is None:
                continue
            count += 1
            rule, reason = found["types"] or found["rules"], found["reason"] or ""
            if "here and below" in reason:
                said.add(rule)
            if (not re.search(r"\w{3}", reason) and rule not in said) or re.search(r"\bsame\)?$", reason):
                silent.append(f"{path.relative_to(ROOT)}:{number}")
    assert count > 100
    assert silent == []


def test_no_duration_is_measured_with_a_clock_that_jumps() -> None:
    """`time.time` goes back when somebody sets the clock; `time.perf_counter` and `time.monotonic` do not."""
    sources = [*(ROOT / "server").rglob("*.py"), *(ROOT / "client").rglob("*.py")]
    assert len(sources) > 100
    assert [str(path) for path in sources if re.search(r"\btime\.time(_ns)?\b", path.read_text())] == []
