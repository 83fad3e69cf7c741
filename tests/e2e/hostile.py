"""Requests that nobody should send: right in part, wrong in part, or noise. The same seed makes the same request."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

MODEL = "relu"
NAMES = (MODEL, MODEL, MODEL, "nobody", "", " ", "relu\0", "../relu", "x" * 300, "ü€𝄞")
SITES = (
    "**",
    "Dense_*",
    "relu:0",
    "activations/*",
    "Dense_0/input",
    "[",
    "***",
    "",
    "a" * 300,
    "Dense_9",
    "\0",
    "*/**/?",
)
INTEGERS = (0, 1, 2, 3, -1, 7, 100, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
NUMBERS = (0.0, 1.0, 0.5, -1.0, 2.0, 1e-45, 1e38, 1e308, float("nan"), float("inf"), float("-inf"))
_SINGLES = tuple(number for number in NUMBERS if abs(number) < 1e300 or abs(number) == float("inf"))
DEEPEST = 5

_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


class Maker:
    """Makes requests."""

    def __init__(self, seed: int, *, real: bool = True) -> None:
        """Takes where to begin, and whether models that there are may be named."""
        self._random = random.Random(seed)
        self._names = NAMES if real else tuple(name for name in NAMES if name != MODEL)

    def request(self, descriptor: Descriptor) -> bytes:
        """Returns the bytes of a request; some are no message at all."""
        data = self.message(descriptor).SerializeToString()
        return self._damage(data) if self._one_in(5) else data

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """Returns a message, some of whose fields are set."""
        made: Message = message_factory.GetMessageClass(descriptor)()
        special = _SPECIAL.get(descriptor.full_name)
        if special is not None and not self._one_in(4):
            special(self, made)
            return made
        chosen = {oneof.name: self._random.choice(oneof.fields).name for oneof in descriptor.oneofs}
        for field in descriptor.fields:
            skipped = field.containing_oneof is not None and chosen[field.containing_oneof.name] != field.name
            if not skipped and not self._one_in(3) and depth < DEEPEST:
                self._set(made, field, depth)
        return made

    def _set(self, made: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
            for _ in range(self._random.choice((1, 1, 2))):
                name = "x" if field.name == "inputs" and not self._one_in(5) else self._value(key)
                if value.message_type is None:
                    getattr(made, field.name)[name] = self._value(value)
                else:
                    getattr(made, field.name)[name].CopyFrom(self.message(value.message_type, depth + 1))
        elif field.is_repeated:
            for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                if field.message_type is None:
                    getattr(made, field.name).append(self._value(field))
                else:
                    getattr(made, field.name).append(self.message(field.message_type, depth + 1))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(made, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind in _RANGES:
            low, high = _RANGES[kind]
            choices: Sequence[Any] = [number for number in INTEGERS if low <= number <= high]
        elif kind in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}:
            choices = NUMBERS if kind == FieldDescriptor.CPPTYPE_DOUBLE else _SINGLES
        elif kind == FieldDescriptor.CPPTYPE_BOOL:
            choices = (False, True)
        elif field.enum_type is not None:
            choices = [*field.enum_type.values_by_number, 99]
        elif field.type == FieldDescriptor.TYPE_BYTES:
            choices = [self._random.randbytes(size) for size in (0, 1, 4, 24, 100)]
        elif field.name in {"model", "model_name", "name"}:
            choices = self._names
        else:
            choices = SITES if field.name in {"sites", "globs", "string_param"} else (*NAMES, *SITES, "x", "logits")
        return self._random.choice(choices)

    def _damage(self, data: bytes) -> bytes:
        damaged = bytearray(data or b"\0")
        for _ in range(self._random.randint(1, 4)):
            place = self._random.randrange(len(damaged))
            kind = self._random.randrange(4)
            if kind == 0:
                damaged[place] ^= 1 << self._random.randrange(8)
            elif kind == 1:
                del damaged[place + 1 :]
            elif kind == 2:
                damaged[place:place] = self._random.randbytes(self._random.randint(1, 8))
            else:
                damaged += damaged[place:]
        return bytes(damaged)

    def _one_in(self, count: int) -> bool:
        return self._random.randrange(count) == 0

    def rows(self) -> np.ndarray:
        """Returns inputs that are right, but for their values."""
        values = [self._random.choice(NUMBERS) for _ in range(6 * self._random.randint(1, 4))]
        with np.errstate(over="ignore"):
            return np.array(values).astype(np.float32).reshape(-1, 6)


def _tensor(maker: Maker, made: Any) -> None:
    rows = maker.rows()
    made.data_type = made.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name["DATA_TYPE_FLOAT32"].number
    made.shape.extend(rows.shape)
    made.data = rows.tobytes()


def _infer(maker: Maker, made: Any) -> None:
    rows = maker.rows()
    made.model_name = MODEL
    made.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    made.raw_input_contents.append(rows.tobytes())


_SPECIAL: dict[str, Callable[[Maker, Any], None]] = {
    "fluoroscope.v1.Tensor": _tensor,
    "inference.ModelInferRequest": _infer,
}
"""What makes messages that are right, so that more than the first check is reached."""
