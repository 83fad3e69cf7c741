"""What all tests share: servers that they start keep no compiled programs in the home of whoever runs the tests."""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# Networks of tests are small: cutting programs into pieces for many threads of the compiler takes longer than it saves.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_parallel_codegen_split_count=1")


@pytest.fixture(autouse=True, scope="session")
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for caches that lasts as long as the tests do, and that all processes which run them share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # then that is a folder of this process alone, in the one of all
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "XDG_CACHE_HOME", str(folder / "cache"))
        yield folder / "cache"


@pytest.fixture(autouse=True, scope="module")
def garbage() -> Iterator[None]:
    """What lives on after the tests of a file is looked at no more: a twentieth of the time went into that."""
    yield
    gc.collect()
    gc.freeze()


settings.register_profile("here", deadline=None)  # a busy machine is no defect
settings.load_profile("here")

# Whoever runs the tests behind nohup, or in the background of a shell, ignores these, and so would the servers.
for each, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, usual)
