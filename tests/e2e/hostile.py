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
MANY = (20, 100, 300, 3000)
"""How long a repeated field is, if it is long: what is quick for three elements may not be for many."""

INTEGERS = (0, 1, 2, 3, -1, 7, 100, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1, -(2**63), 2**64 - 1)
NUMBERS = (0.0, 1.0, 0.5, -1.0, 2.0, 1e-45, 1e38, 1e308, float("nan"), float("inf"), float("-inf"))
_SINGLES = tuple(number for number in NUMBERS if abs(number) < 1e300 or abs(number) == float("inf"))
DEEPEST = 5
SOUND = 16
"""Of how many tensors one has a shape that does not belong to it."""

WIDTHS = {"Dense_0": 16, "Dense_1": 12, "activations/*": 16, "relu:0": 16}
"""Sites of the model, and the size of the last axis there."""

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
        if special is not None and not self._one_in(12 if depth else 4):  # of many parts, one is wrong soon enough
            special(self, made)
            return made
        chosen = {oneof.name: self._random.choice(oneof.fields).name for oneof in descriptor.oneofs}
        for field in descriptor.fields:
            skipped = field.containing_oneof is not None and chosen[field.containing_oneof.name] != field.name
            if not skipped and not self._one_in(3) and depth < DEEPEST:
                self._set(made, field, depth)
        return made

    def part(self, whole: Message, field: str) -> Message:
        """Returns a message for a field of another."""
        descriptor: Any = whole.DESCRIPTOR.fields_by_name[field].message_type
        return self.message(descriptor, 2)

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
            if field.message_type is None:
                getattr(made, field.name).extend(self._values(field))
            elif self._one_in(16):
                same = [self.message(field.message_type, depth + 1)]
                getattr(made, field.name).extend(same * self._random.choice(MANY))
            else:
                for _ in range(self._random.choice((1, 1, 1, 2, 3))):
                    getattr(made, field.name).append(self.message(field.message_type, depth + 1))
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(self.message(field.message_type, depth + 1))
        else:
            setattr(made, field.name, self._value(field))

    def _values(self, field: FieldDescriptor) -> list[Any]:
        """Returns a few values, or many; of many, all may be the same."""
        if not self._one_in(8):
            return [self._value(field) for _ in range(self._random.choice((1, 1, 1, 2, 3)))]
        many = self._random.choice(MANY)
        if self._one_in(2):
            return [self._value(field)] * many
        return [self._value(field) for _ in range(many)]

    def sizes(self) -> list[int]:
        """Returns the sizes of a shape, which are often not those of any array."""
        choices = [number for number in INTEGERS if -(2**63) <= number < 2**63]
        if self._one_in(2):
            return [self._random.choice(choices)] * self._random.choice(MANY)
        return [self._random.choice(choices) for _ in self.some(0, 5)]

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

    def one_of(self, choices: Sequence[Any]) -> Any:
        """Returns one of them."""
        return self._random.choice(choices)

    def some(self, least: int, most: int) -> range:
        """Returns a range of a length from the least to the most."""
        return range(self._random.randint(least, most))


def _numbers(made: Any, array: np.ndarray) -> None:
    """Sets a tensor to an array of float32 or int32."""
    name = f"DATA_TYPE_{array.dtype.name.upper()}"
    made.data_type = made.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[name].number
    made.shape.extend(array.shape)
    made.data = array.tobytes()


def _tensor(maker: Maker, made: Any) -> None:
    _numbers(made, maker.rows())
    if maker.one_of(range(SOUND)) == 0:
        made.shape[:] = maker.sizes()


def _infer(maker: Maker, made: Any) -> None:
    rows = maker.rows()
    made.model_name = MODEL
    shape = maker.sizes() if maker.one_of(range(SOUND)) == 0 else rows.shape
    made.inputs.add(name="x", datatype="FP32", shape=shape)
    made.raw_input_contents.append(rows.tobytes())


def _predict(maker: Maker, made: Any) -> None:
    made.model = MODEL
    _tensor(maker, made.inputs["x"])


def _reduction(maker: Maker, made: Any) -> None:
    """Sets one that most values can have: of all that can be wrong with one, chance finds enough."""
    kind = maker.one_of(made.DESCRIPTOR.oneofs_by_name["reduction"].fields).name
    reduction = getattr(made, kind)
    reduction.SetInParent()
    if kind == "histogram":
        reduction.bins = maker.one_of((1, 7, 100))
        reduction.low, reduction.high = sorted(maker.one_of(NUMBERS) for _ in range(2))
    elif kind == "quantiles":
        reduction.probabilities.extend((0.0, 0.5, 1.0))
    elif kind in {"norm", "mean"}:
        reduction.axes.extend(maker.one_of(((), (0,), (-1,), (0, 1), (0, 0), (2,))))
    elif kind == "top_k":
        reduction.k = maker.one_of((1, 2, 5))


def _capture(maker: Maker, made: Any) -> None:
    made.sites.append(maker.one_of(tuple(WIDTHS)))
    for _ in maker.some(0, 2):
        made.reductions.add().MergeFrom(maker.part(made, "reductions"))


def _edit(maker: Maker, made: Any) -> None:
    site = maker.one_of(tuple(WIDTHS))
    made.sites.append(site)
    made.rows.extend(maker.one_of((0, -1, 1, 5)) for _ in maker.some(0, 2))
    made.units.extend(maker.one_of((0, 3, -1, 20)) for _ in maker.some(0, 2))
    change = maker.one_of(made.DESCRIPTOR.oneofs_by_name["change"].fields).name
    written = getattr(made, change)
    written.SetInParent()
    if change == "patch_from_row":
        written.rows.append(maker.one_of((0, -1, 1, 5)))
    elif change == "patch_from_inputs":
        _tensor(maker, written.inputs["x"])
    elif written.DESCRIPTOR.fields:
        shape = maker.one_of(((), (1,), (WIDTHS[site],), (1, WIDTHS[site])))
        value = np.full(shape, maker.one_of(_SINGLES), np.float32)
        _numbers(getattr(written, written.DESCRIPTOR.fields[0].name), value)


def _gradient(maker: Maker, made: Any) -> None:
    made.output = "logits"
    index = np.array(maker.one_of((0, 4, -1, 5, 2**31 - 1)), np.int32)
    _numbers(getattr(made, maker.one_of(("logit", "cross_entropy"))), index)
    made.inputs.extend(maker.one_of(("x", "*", "y")) for _ in maker.some(0, 1))
    made.parameters.extend(maker.one_of(("**", "params/Dense_0/*", "Dense_0")) for _ in maker.some(0, 1))


def _inspection(maker: Maker, made: Any) -> None:
    made.model = MODEL
    _tensor(maker, made.inputs["x"])
    for field, most in (("captures", 2), ("edits", 2)):
        for _ in maker.some(0 if field == "edits" else 1, most):
            getattr(made, field).add().MergeFrom(maker.part(made, field))
    for _ in maker.some(0, 1):
        made.gradient.MergeFrom(maker.part(made, "gradient"))
    made.execution = maker.one_of((0, 1, 2, 3))


def _plan(maker: Maker, made: Any) -> None:
    made.inspection.MergeFrom(maker.part(made, "inspection"))
    made.rows = maker.one_of((1, 2, 8, 9, 128, 129))
    made.compile = maker.one_of((False, True))


def _reading(maker: Maker, made: Any) -> None:
    made.model = MODEL
    capture = made.captures.add(sites=[maker.one_of(("**", "params/Dense_0/kernel", "params/*/bias", "Dense_0"))])
    for _ in maker.some(0, 2):
        capture.reductions.add().MergeFrom(maker.part(capture, "reductions"))


def _comparison(maker: Maker, made: Any) -> None:
    made.model = MODEL
    _tensor(maker, made.left.inputs["x"])
    for _ in maker.some(0, 1):
        _tensor(maker, made.right.inputs["x"])
    made.sites.append(maker.one_of(("**", *WIDTHS)))
    for _ in maker.some(0, 1):
        made.rtol = maker.one_of(NUMBERS)
        made.atol = maker.one_of(NUMBERS)


_SPECIAL: dict[str, Callable[[Maker, Any], None]] = {
    "fluoroscope.v1.Tensor": _tensor,
    "fluoroscope.v1.PredictRequest": _predict,
    "fluoroscope.v1.Reduction": _reduction,
    "fluoroscope.v1.Capture": _capture,
    "fluoroscope.v1.Edit": _edit,
    "fluoroscope.v1.Gradient": _gradient,
    "fluoroscope.v1.InspectActivationsRequest": _inspection,
    "fluoroscope.v1.PlanInspectionRequest": _plan,
    "fluoroscope.v1.InspectParametersRequest": _reading,
    "fluoroscope.v1.CompareActivationsRequest": _comparison,
    "inference.ModelInferRequest": _infer,
}
"""What makes messages that are right, or nearly, so that more than the first check is reached."""
