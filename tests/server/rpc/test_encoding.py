"""From values of the domain to messages."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from fluoroscope.v1 import inspection_pb2 as inspection
from fluoroscope.v1.tensor_pb2 import DATA_TYPE_BFLOAT16, DATA_TYPE_UNSPECIFIED
from fluoroscope_server.engine import Site, SiteKind
from fluoroscope_server.rpc.encoding import (
    KIND_NUMBERS,
    encode_site,
    encode_spec,
)
from fluoroscope_server.signature import BATCH, TensorSpec

HALF = np.dtype(ml_dtypes.bfloat16)


def test_spec() -> None:
    message = encode_spec(TensorSpec(name="x", dtype=HALF, shape=(BATCH, 3)))
    assert (message.name, message.data_type, list(message.shape)) == ("x", DATA_TYPE_BFLOAT16, [-1, 3])


def test_site() -> None:
    site = Site(path="a/b:0", kind=SiteKind.NAMED, dtype=HALF, shape=(5, BATCH, 3), order=2, reason="why not")
    assert encode_site(site) == inspection.Site(
        path="a/b:0",
        kind=inspection.SITE_KIND_NAMED,
        data_type=DATA_TYPE_BFLOAT16,
        shape=[5, -1, 3],
        bytes_per_example=30,
        not_capturable_reason="why not",
    )


def test_a_site_of_a_type_that_the_contract_lacks() -> None:
    site = Site(path="x", kind=SiteKind.NAMED, dtype=np.dtype("M8[s]"), shape=(BATCH,), order=0, reason="it is odd")
    message = encode_site(site)
    assert (message.data_type, message.bytes_per_example) == (DATA_TYPE_UNSPECIFIED, 8)
    assert message.not_capturable_reason == "it is odd"


def test_each_row_has_its_way_back() -> None:
    assert set(KIND_NUMBERS) == set(SiteKind)
