"""Real files, the package's own answers for them, and the example's folder on the import path."""

from __future__ import annotations

import gzip
import json
import logging
import sqlite3
import sys
import sysconfig
import wave
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from magika import Magika
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from weights import PackagedModel

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "magika"
sys.path.insert(0, str(EXAMPLE))  # the example is a folder of scripts, as it is for its users

from weights import packaged_model, read_variables  # noqa: E402 - found through the line above


def _of_python() -> list[Path]:
    """Returns files of this Python: sources, a compiled module, a shared library, a program, a text."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = [
        library / name for name in ("ast.py", "json/decoder.py", "tkinter/__init__.py", "this.py", "LICENSE.txt")
    ]
    return [
        *sources,
        Path(np.linalg.__file__),
        *sorted((library / "lib-dynload").glob("*.so"))[:2],
        Path(sys.executable),
    ]


def _made(folder: Path) -> list[Path]:
    """Writes files of common formats; returns them."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    image = Image.fromarray(pixels)
    for suffix in ("png", "gif", "jpeg", "bmp", "tiff", "webp"):
        image.save(folder / f"noise.{suffix}")
    (folder / "table.csv").write_text("step,loss,accuracy\n" + "".join(f"{n},{9 / (n + 1)},0.{n}\n" for n in range(90)))
    (folder / "numbers.json").write_text(json.dumps({"values": list(range(2000)), "name": "numbers"}))
    (folder / "page.html").write_text("<!DOCTYPE html><html><head><title>a</title></head><body><p>b</p></body></html>")
    (folder / "settings.toml").write_text('[project]\nname = "fluoroscope"\nversion = "0.1.0"\n')
    (folder / "text.txt.gz").write_bytes(gzip.compress(b"a stitch in time saves nine. " * 400, mtime=0))
    np.save(folder / "array.npy", np.linspace(0, 1, 500))
    with zipfile.ZipFile(folder / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "table.csv", "table.csv")
    with sqlite3.connect(folder / "rows.sqlite") as database:
        database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, name TEXT)")
    database.close()
    with wave.open(str(folder / "noise.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(pixels.tobytes())
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def example() -> Path:
    return EXAMPLE


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [*_of_python(), *_made(tmp_path_factory.mktemp("files"))]


@pytest.fixture(scope="session")
def magika() -> Magika:
    return Magika()


@pytest.fixture(scope="session")
def packaged() -> PackagedModel:
    return packaged_model()


@pytest.fixture(scope="session")
def variables(packaged: PackagedModel) -> dict[str, Any]:
    return read_variables(packaged.graph)


class Onnxruntime:
    """onnxruntime on the package's own model, in the model's float32."""

    def __init__(self, graph: Path) -> None:
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def __call__(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        (probabilities,) = self._session.run(["target_label"], {"bytes": tokens})
        return np.asarray(probabilities)


class Exact:
    """The package's own graph, node by node in float64: what the weights mean, before any rounding."""

    def __init__(self, graph: Path) -> None:
        self._evaluator = ReferenceEvaluator(_in_float64(onnx.load(graph)), new_ops=[GlobalMaxPool])

    def __call__(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        # One row at a time: the convolution's window copies are large.
        return np.concatenate([self._row(row) for row in tokens])

    def _row(self, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        (probabilities,) = self._evaluator.run(["target_label"], {"bytes": tokens[None]})
        return np.asarray(probabilities)


class GlobalMaxPool(OpRun):
    """The operator as specified; onnx's own drops the reduced axes of a 3-dimensional input."""

    def _run(self, x: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64]]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    for constant in model.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            doubled = numpy_helper.to_array(constant).astype(np.float64)
            constant.CopyFrom(numpy_helper.from_array(doubled, constant.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    return model


@pytest.fixture(scope="session")
def reference(packaged: PackagedModel) -> Onnxruntime:
    return Onnxruntime(packaged.graph)


@pytest.fixture(scope="session")
def exact(packaged: PackagedModel) -> Exact:
    return Exact(packaged.graph)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """The programs of examples let nobody say anything below a warning; other tests want to hear it."""
    yield
    logging.disable(logging.NOTSET)
