"""The inputs of a call: what the caller gives, as arrays."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

import ml_dtypes
import numpy as np

from fluoroscope.calls.argument import building
from fluoroscope.calls.errors import InvalidRequestError
from fluoroscope.calls.model import get_model
from fluoroscope.wire import WireError, fill_tensor

if TYPE_CHECKING:
    from google.protobuf.internal.containers import MessageMap
    from numpy.typing import ArrayLike

    from fluoroscope.calls.exchange import Steps
    from fluoroscope.v1.tensor_pb2 import Tensor

Inputs: TypeAlias = "Mapping[str, ArrayLike]"
"""The inputs of a model by name. Arrays go as they are; Python lists and numbers as the model wants them."""

_PLAIN = (bool, int, float, complex, list, tuple)
_DEFAULTS = {"b": np.dtype(np.bool_), "i": np.dtype(np.int32), "f": np.dtype(np.float32)}


def as_arrays(
    inputs: Inputs, *, model: str, version: int | None, label: str | None = None, timeout: float | None
) -> Steps[dict[str, np.ndarray]]:
    """Makes arrays of inputs.

    Arrays are never converted: another dtype than the model's is the server's to refuse. Python lists
    and numbers have no dtype of their own, so they take that of the model's input, which costs one more
    call; of an input that the model does not have, float32, int32 or bool.

    Raises:
        InvalidRequestError: A list is ragged, its numbers do not fit the model's dtype, or an array is masked.
    """
    if not isinstance(inputs, Mapping):
        raise InvalidRequestError(
            f'inputs are a {type(inputs).__name__}; expected a mapping from names to arrays, such as {{"image": x}}',
            field="inputs",
        )
    for name, value in inputs.items():
        if np.ma.isMaskedArray(value):
            raise _unfit(name, "is a masked array, whose mask cannot be sent: fill it, as with x.filled(0)")
    plain = {name for name, value in inputs.items() if isinstance(value, _PLAIN) and not isinstance(value, np.generic)}
    dtypes: dict[str, np.dtype | None] = {}
    if plain:
        described = yield from get_model(model, version=version, label=label, timeout=timeout)
        dtypes = {spec.name: spec.dtype for spec in described.inputs}
    return {
        name: as_dtype(value, dtypes.get(name), name=name) if name in plain else np.asarray(value)
        for name, value in inputs.items()
    }


def as_dtype(value: ArrayLike, dtype: np.dtype | None, *, name: str) -> np.ndarray:
    """Returns Python numbers, nested in lists, as an array of a dtype that can hold them.

    Args:
        value: The numbers.
        dtype: The dtype to give them. None means float32, int32 or bool, as the numbers are.
        name: The input that they are for.

    Raises:
        InvalidRequestError: The lists are ragged, or the dtype cannot hold the numbers.
    """
    try:
        natural = np.asarray(value)
    except ValueError:
        raise _unfit(name, "is no array: all lists of one depth must be equally long, and hold numbers only") from None
    wanted = dtype if dtype is not None else _DEFAULTS.get(natural.dtype.kind, natural.dtype)
    if natural.dtype.kind in "OSU":
        fit = "numbers only" if dtype is None else f"numbers that {dtype} can hold"
        raise _unfit(name, f"holds {_foreign(value)}: give {fit}")
    # A list of no elements is float64 to NumPy, and fits everything.
    if natural.size and natural.dtype.kind not in _accepted(wanted):
        raise _unfit(name, f"holds {natural.dtype.name} values, which {wanted} cannot hold: give {wanted}")
    with np.errstate(all="ignore"):  # what NumPy would warn of is refused below
        array = natural.astype(wanted)
    unheld = natural[_unheld(natural, array)]
    if unheld.size:
        raise _unfit(name, f"holds {unheld.flat[0]}, which {wanted} cannot hold")
    return array


def fill_inputs(message: MessageMap[str, Tensor], arrays: Mapping[str, np.ndarray]) -> None:
    """Puts arrays into the `inputs` of a request.

    Raises:
        InvalidRequestError: An array has a dtype that no model can have, or a name is none.
    """
    for name, array in arrays.items():
        with building(f"input {name!r}", field="inputs"):
            tensor = message[name]
        try:
            fill_tensor(tensor, array)
        except WireError as error:
            raise _unfit(name, f"cannot be sent: {error}") from None


def _unheld(natural: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Returns where a dtype cannot hold numbers, but for rounding.

    Args:
        natural: The numbers.
        array: What they became in the dtype.
    """
    if _is_integer(array.dtype):
        ends = ml_dtypes.iinfo(array.dtype)  # type: ignore[no-untyped-call]  # its authors left it untyped
        return (natural < int(ends.min)) | (natural > int(ends.max))
    changed: np.ndarray = np.isfinite(natural) != np.isfinite(array)
    endless = np.array(np.inf).astype(array.dtype)
    if np.isfinite(endless):  # float4 has no infinity: it ends at its greatest number
        changed |= (natural < -float(endless)) | (natural > float(endless))
    return changed


def _foreign(value: ArrayLike) -> str:
    """Returns what of nested lists is no number that NumPy has."""
    for each in np.asarray(value, object).flat:
        if not isinstance(each, int | float | complex):
            return f"{reprlib.repr(each)}, which is no number"
    return "a whole number of more than 64 bits"


def _accepted(dtype: np.dtype) -> str:
    """Returns the kinds of Python numbers that a dtype can hold without losing what they mean."""
    if dtype.kind == "b":
        return "b"
    if _is_integer(dtype):
        return "biu"
    return "biufc" if dtype.kind == "c" else "biuf"


def _is_integer(dtype: np.dtype) -> bool:
    return dtype.name.startswith(("int", "uint"))  # ml_dtypes' int4 has the kind of a record


def _unfit(name: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(f"input {name!r} {what}", field=f"inputs[{name}]")
