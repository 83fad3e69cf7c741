"""Checking: what would a server say to these checkpoints, without serving them?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fluoroscope_server.checkpoints import check_seal, steps, stray_manifests, uncommitted
from fluoroscope_server.errors import ModelError, SettingsError, UnsealedError
from fluoroscope_server.serving.loading import loading, make_engine, open_model, restore
from fluoroscope_server.serving.steps import is_model
from fluoroscope_server.settings import ModelSource, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEFTOVER = "LEFTOVER"
"""The reason of a finding that no server minds."""

BAD_NAME = "BAD_NAME"
"""The reason of a folder of a repository that is left out for its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about a model that its operator should know."""

    path: str
    """The folder of the model."""

    step: int | None
    """The step; None for the folder as a whole."""

    reason: str
    """A constant in capitals: one of `REFUSALS`, BAD_NAME or LEFTOVER."""

    is_error: bool
    """Whether the server would refuse this step."""

    message: str
    """What was found, in one line."""

    def __str__(self) -> str:
        """Returns the finding in one line."""
        return f"{'error' if self.is_error else 'note'} {self.reason}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found out about one model."""

    path: Path
    """The folder of the model."""

    steps: list[int]
    """The committed steps, all of which were checked."""

    findings: list[Finding]
    """What was found, step by step."""

    @property
    def would_be_refused(self) -> bool:
        """Returns whether the server would refuse a step, or the whole model."""
        return any(finding.is_error for finding in self.findings)


def check_folder(path: Path, *, family: str | None = None, deep: bool = False, require_seal: bool = False) -> Report:
    """Checks a folder of a repository, which need not be a model; as `check_model`."""
    if not is_model(path):
        message = f"{path} is passed over: it holds neither a committed step nor a model.toml"
        passed = Finding(path=str(path), step=None, reason=LEFTOVER, is_error=False, message=message)
        return Report(path=path, steps=[], findings=[passed])
    try:
        check_name("model", path.name)
    except SettingsError as error:
        message = f"{path} is left out: {error.message}"
        left_out = Finding(path=str(path), step=None, reason=BAD_NAME, is_error=True, message=message)
        return Report(path=path, steps=[], findings=[left_out])
    return check_model(path, family=family, deep=deep, require_seal=require_seal)


def check_model(path: Path, *, family: str | None = None, deep: bool = False, require_seal: bool = False) -> Report:
    """Checks every committed step of a model as loading it would, and names what a server passes over.

    Args:
        path: a folder of steps, or one checkpoint.
        family: the family, if the operator names it.
        deep: whether to do all that a load does besides: read the weights, compile all and run it.
        require_seal: whether a step without a seal is an error.
    """
    source = ModelSource(name=path.name, path=path, family=family)
    try:
        committed = steps(path)
        if not committed:
            open_model(source)  # raises: it says best why there is none
        findings = [_leftover(path, name) for name in _leftovers(path)]
    except ModelError as error:
        return Report(path=path, steps=[], findings=[_finding(path, None, error)])
    for step in committed:
        findings += _check_step(source, step, deep=deep, require_seal=require_seal)
    return Report(path=path, steps=committed, findings=findings)


def _check_step(source: ModelSource, step: int, *, deep: bool, require_seal: bool) -> Iterator[Finding]:
    try:
        with loading(f"{source.path}, step {step}"):
            try:
                check_seal(source.path, step)
            except UnsealedError as error:
                yield _finding(source.path, step, error, is_error=require_seal)
            verified, checkpoint, config, network = open_model(source, step)
            checkpoint.match(network.variables)
            if deep:
                make_engine(network, restore(verified, checkpoint, config, network), config).close()
    except ModelError as error:
        yield _finding(source.path, step, error)


def _leftovers(path: Path) -> Iterator[tuple[str, str]]:
    for name in uncommitted(path):
        yield name, "is not a committed step: a save under way, or one that never ended"
    for manifest in stray_manifests(path):
        yield manifest.name, "is the seal of a step that is gone; the next `seal` takes it away"


def _leftover(path: Path, leftover: tuple[str, str]) -> Finding:
    name, what = leftover
    return Finding(path=str(path), step=None, reason=LEFTOVER, is_error=False, message=f"{path / name} {what}")


def _finding(path: Path, step: int | None, error: ModelError, *, is_error: bool = True) -> Finding:
    message = "; ".join(line.strip() for line in error.message.splitlines())
    return Finding(path=str(path), step=step, reason=error.reason, is_error=is_error, message=message)
