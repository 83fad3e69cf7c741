from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import click
import numpy as np
import pytest
from PIL import Image

from fluoroscope.calls import TensorSpec
from fluoroscope.cli.fit import fit
from fluoroscope.cli.picture import as_pixels
from fluoroscope.wire import decode_tensor

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.cli.conftest import Run
    from tests.client.fake_server import FakeServer

X = np.array([[[1], [-2]], [[3], [0.5]]], np.float32)
PAIR = {"tokens": np.array([1, 2, 3], np.int32), "mask": np.array([True, False, True])}


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def came(server: FakeServer, name: str = "image") -> np.ndarray:
    """The input that the last request brought."""
    return decode_tensor(server.requests[-1].inputs[name])


def header(text: str) -> bytes:
    """An .npy that ends behind its header."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "batch.npy", X[np.newaxis])
    np.save(tmp_path / "wide.npy", X.astype(np.float64))
    np.savez(tmp_path / "one.npz", X)
    np.savez(tmp_path / "two.npz", image=X, other=X * 2)
    np.savez(tmp_path / "pair.npz", tokens=PAIR["tokens"], mask=PAIR["mask"])
    (tmp_path / "x.json").write_text(json.dumps(X.tolist()))
    (tmp_path / "marked.json").write_text(json.dumps(X.tolist()), "utf-8-sig")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "broken.npy").write_bytes(npy(X)[:70])
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "torn.npy").write_bytes(header("{'descr': ("))
    (tmp_path / "vast.npy").write_bytes(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**40},), }}"))
    (tmp_path / "broken.ppm").write_bytes(b"P6 2 x 255 ")
    Image.new("L", (2, 2)).save(tmp_path / "broken.png", exif=b"Exif\0\0MM but no TIFF")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "word",
    [
        "image=@x.npy",
        "image=@batch.npy",
        "@x.npy",
        "image=@one.npz",
        "@one.npz",
        "image=@two.npz",
        "image=@two.npz:image",
        "@two.npz:image",
        "image=@x.json",
        "image=@marked.json",
        "image=[[[1],[-2]],[[3],[0.5]]]",
        "[[[1],[-2]],[[3],[0.5]]]",
        "image=[[[[1],[-2]],[[3],[0.5]]]]",
    ],
)
def test_every_way_to_give_the_same_input(run: Run, server: FakeServer, word: str) -> None:
    assert run("predict", "digits", word).exit_code == 0
    assert came(server).dtype == np.float32
    assert np.array_equal(came(server), X[np.newaxis])


@pytest.mark.parametrize("word", ["-", "@-", "image=-", "image=@-"])
@pytest.mark.parametrize("stdin", [npy(X), json.dumps(X.tolist()).encode()], ids=["npy", "json"])
def test_standard_input(run: Run, server: FakeServer, word: str, stdin: bytes) -> None:
    assert run("predict", "digits", word, stdin=stdin).exit_code == 0
    assert np.array_equal(came(server), X[np.newaxis])


def test_one_archive_gives_all_inputs(folder: Path, run: Run, server: FakeServer) -> None:
    server.failure = None
    result = run("predict", "pair", f"@{folder / 'pair.npz'}", "--json")

    assert result.exit_code == 1  # the fake network has no such inputs; that they came is what counts
    assert np.array_equal(came(server, "tokens"), PAIR["tokens"][np.newaxis])
    assert np.array_equal(came(server, "mask"), PAIR["mask"][np.newaxis])


def test_the_order_of_bytes_is_no_other_dtype(run: Run, server: FakeServer, folder: Path) -> None:
    np.save(folder / "big.npy", X.astype(">f4"))
    assert run("predict", "digits", "image=@big.npy").exit_code == 0
    assert np.array_equal(came(server), X[np.newaxis])


@pytest.mark.usefixtures("folder")
def test_another_dtype_is_converted_only_on_demand(run: Run, server: FakeServer) -> None:
    refused = run("predict", "digits", "image=@wide.npy")
    done = run("predict", "digits", "image=@wide.npy", "--cast")

    assert refused.exit_code == 2
    assert "is float64; the model wants image: float32[batch, 2, 2, 1]" in refused.stderr
    assert "Give --cast to convert it, or save it as array.astype('float32')." in refused.stderr
    assert done.exit_code == 0
    assert "image: converted from float64 to float32" in done.stderr
    assert came(server).dtype == np.float32


def test_an_image_is_made_to_fit_and_what_was_done_is_said(folder: Path, run: Run, server: FakeServer) -> None:
    Image.new("RGB", (6, 4), (255, 255, 255)).save(folder / "white.png")
    result = run("predict", "digits", "image=@white.png")

    assert result.exit_code == 0
    assert result.stderr == "image: 6x4 RGB image, converted to grey, resized to 2x2, scaled to 0..1\n"
    assert np.array_equal(came(server), np.ones((1, 2, 2, 1), np.float32))


def test_an_image_that_fits_keeps_its_pixels(folder: Path, run: Run, server: FakeServer) -> None:
    Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8)).save(folder / "grey.png")

    assert run("predict", "digits", "image=@grey.png").stderr == "image: 2x2 L image, scaled to 0..1\n"
    assert np.allclose(came(server).reshape(-1), [0, 0.2, 0.4, 1])


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_an_image_of_16_bits_keeps_its_greys(folder: Path, run: Run, server: FakeServer, name: str) -> None:
    Image.fromarray(np.array([[0, 51], [102, 255]], np.uint16) * 257).save(folder / name)

    assert run("predict", "digits", f"@{name}").stderr == "image: 2x2 I;16 image, reduced to 8 bits, scaled to 0..1\n"
    assert np.allclose(came(server).reshape(-1), [0, 0.2, 0.4, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_an_image_whose_pixels_have_no_range(folder: Path, run: Run, dtype: type) -> None:
    Image.fromarray(np.array([[0, 1], [2, 3]], dtype)).save(folder / "deep.tif")
    result = run("predict", "digits", "image=@deep.tif")

    assert result.exit_code == 2
    assert "are numbers of any size, and none of them is white. Give an array" in result.stderr


@pytest.mark.parametrize("dtype", ["int8", "int4", "uint2"])
def test_an_image_does_not_wrap_in_a_type_that_is_too_small(dtype: str) -> None:
    with pytest.raises(click.UsageError, match=f"pixels are 0 to 255, which {dtype} cannot hold"):
        as_pixels(Image.new("L", (2, 2)), TensorSpec(name="image", dtype=np.dtype(dtype), shape=(-1, 2, 2)))


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_an_image_for_integers_keeps_its_pixels(dtype: str) -> None:
    spec = TensorSpec(name="image", dtype=np.dtype(dtype), shape=(-1, 2, 2))

    assert as_pixels(Image.new("L", (2, 2), 255), spec).tolist() == [[255, 255], [255, 255]]


def test_an_input_of_a_type_that_only_a_newer_client_knows() -> None:
    spec = TensorSpec(name="image", dtype=None, shape=(-1, 2, 2))
    for value in (Image.new("L", (2, 2)), np.zeros((2, 2), np.float32)):
        with pytest.raises(click.UsageError, match="that this client does not know"):
            fit(value, spec, cast=True)


def test_an_image_for_an_input_of_no_such_shape(folder: Path, run: Run) -> None:
    Image.new("L", (2, 2)).save(folder / "grey.png")
    result = run("predict", "pair", "tokens=@grey.png", "mask=[true,true,true]")

    assert result.exit_code == 2
    assert "an image cannot be the input tokens: int32[batch, 3]: expected (height, width, channels)" in result.stderr


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["image=@none.npy"], "none.npy cannot be read: No such file or directory;"),
        (["image=@"], "no file is named"),
        (["@"], "no file is named"),
        (["image=@text.txt"], "text.txt is 'hello': neither .npy, .npz, an image, nor JSON"),
        (["image=@broken.npy"], "broken.npy cannot be read as NumPy's"),
        (["image=@broken.npz"], "broken.npz cannot be read as NumPy's"),
        (["image=@objects.npy"], "objects.npy cannot be read as NumPy's"),
        (["image=@torn.npy"], "torn.npy cannot be read as NumPy's"),
        (["image=@vast.npy"], "vast.npy cannot be read as NumPy's"),
        (["image=@broken.ppm"], "broken.ppm is an image that cannot be read"),
        (["image=@broken.png"], "broken.png is an image that cannot be read"),
        (["image=x.npy"], "For a file, write image=@x.npy."),
        (['image={"a": 1}'], "is JSON, but no number and no list of numbers"),
        (
            ["[1, 2"],
            "the value of image is '[1, 2': neither .npy, .npz, an image, nor JSON such as [[0.5, 1], [2, 3]].\n",
        ),
        (["image=[1, -1e400]"], "image has -1e400, which is more than a number can be; infinity is written Infinity"),
        (["image=[1, [2]]"], "input 'image' is no array: all lists of one depth must be equally long"),
        (["Dense_*"], "'Dense_*' is no INPUT=VALUE; give an input as image=@FILE"),
        (["image=@two.npz:missing"], "two.npz has no 'missing'; it has image, other. Name one: image=@two.npz:KEY."),
        (["image=@x.npy:image"], "nearest in"),
        (["@two.npz"], "no input 'other'. The model digits wants image: float32[batch, 2, 2, 1]."),
        (["picture=@x.npy"], "no input 'picture', 'image' is missing. The model digits wants image"),
        ([], "'image' is missing"),
        (["image=@x.npy", "@x.npy"], "the input image is given twice"),
    ],
)
def test_mistakes_are_told_before_anything_is_asked(run: Run, server: FakeServer, words: list[str], text: str) -> None:
    result = run("predict", "digits", *words)

    assert result.exit_code == 2
    assert text in result.stderr
    assert [type(request).__name__ for request in server.requests] == ["GetModelRequest"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("word", ["@x.npy", "[[1, 2, 3]]"])
def test_a_value_without_a_name_needs_a_model_of_one_input(run: Run, word: str) -> None:
    result = run("predict", "pair", word)

    assert result.exit_code == 2
    assert f"which input is {word}? The model has tokens, mask: write NAME={word}." in result.stderr


def test_numbers_without_a_name_are_told_from_sites(run: Run, server: FakeServer) -> None:
    numbers = "[[[1],[-2]],[[3],[0.5]]]"
    result = run("inspect", "digits", numbers, "Dense_0", "3", "--edit", f"patch head {numbers}")

    assert result.exit_code == 0, result.stderr
    request = server.requests[-1]
    assert np.array_equal(decode_tensor(request.inputs["image"]), X[np.newaxis])
    assert np.array_equal(decode_tensor(request.edits[0].patch_from_inputs.inputs["image"]), X[np.newaxis])
    assert list(request.captures[0].sites) == ["Dense_0", "3"]
