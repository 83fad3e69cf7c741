from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import identify

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from magika import Magika

    from weights import PackagedModel

    from .conftest import Onnxruntime


def test_labels_are_those_of_the_package(packaged: PackagedModel) -> None:
    assert tuple(identify.LABELS) == packaged.labels


def test_each_file_gets_magikas_label_whatever_batch_it_is_in(
    files: list[Path], reference: Onnxruntime, magika: Magika
) -> None:
    rows: list[int] = []

    def predict(tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        rows.append(len(tokens))
        return reference(tokens)

    tokens = identify.read(files)
    found = dict(zip(tokens, identify.identify(list(tokens.values()), predict), strict=True))
    for path in files:
        expected = magika.identify_path(path).prediction
        label, probability = found[path]
        assert label == str(expected.dl.label)
        np.testing.assert_allclose(probability, expected.score, rtol=0, atol=1e-3)
    assert len(rows) > 1
    assert max(rows) == identify.BATCH
    assert sum(rows) == len(files)


def test_a_file_without_an_answer_is_named_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    (tmp_path / "long").write_bytes(b"0123456789")
    tokens = identify.read([tmp_path / "short", tmp_path / "absent", tmp_path / "long"])
    assert list(tokens) == [tmp_path / "long"]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"{tmp_path / 'short'}: 3 bytes after leading white space; the network needs 8"
    assert "No such file" in said[1]


def test_without_a_server_it_says_so_in_a_line(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = f"unix:{tmp_path / 'nowhere'}"
    monkeypatch.setattr("sys.argv", ["identify.py", "--server", nowhere, str(files[0])])
    with pytest.raises(SystemExit, match="nowhere"):
        identify.main()
