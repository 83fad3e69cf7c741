"""What holds after every wrong turn: the server still serves, and has told nobody where its code is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluoroscope.v1 import inference_pb2
from fluoroscope.wire import decode_tensor

from . import raw
from .raw import PREDICT, predict

if TYPE_CHECKING:
    from .raw import Refusal
    from .server_process import ServerProcess

SECRETS = ("Traceback", 'File "', ".py", "site-packages", sys.prefix, str(Path(__file__).parents[2]), "0x7f")
"""What no message may say: where our code is, and what it was doing."""


def still_serves(server: ServerProcess) -> None:
    answer = raw.call(server.target, PREDICT, predict())
    assert isinstance(answer, list), answer
    (message,) = answer
    logits = decode_tensor(inference_pb2.PredictResponse.FromString(message).outputs["logits"])
    assert logits.shape == (1, 5)
    assert np.isfinite(logits).all()


def keeps_secrets(found: Refusal) -> None:
    assert not [secret for secret in SECRETS if secret in found.message], found.message
