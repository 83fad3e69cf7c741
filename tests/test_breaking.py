"""The contract's check against what clients know already: `proto/breaking.sh`, in repositories made for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .lacking import program

PROTO = Path(__file__).resolve().parent.parent / "proto"


class Checkout:
    """A folder with the contract and its check, which may become a repository."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(PROTO, folder / "proto")
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin" / "buf").symlink_to(Path(sys.executable).parent / "buf")
        self.folder = folder

    def git(self, *words: str) -> None:
        names = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        names["GIT_CONFIG_GLOBAL"] = os.devnull
        subprocess.run(["git", *words], cwd=self.folder, check=True, env={**os.environ, **names}, capture_output=True)

    def commit(self) -> None:
        if not (self.folder / ".git").exists():
            self.git("init", "--initial-branch=main")
        self.git("add", "proto")
        self.git("commit", "--allow-empty", "--message=a commit")

    def rename_a_field(self) -> None:
        file = self.folder / "proto/fluoroscope/v1/model.proto"
        text = file.read_text()
        assert "string name = 1;" in text
        file.write_text(text.replace("string name = 1;", "string renamed = 1;"))

    def check(self) -> tuple[int, str]:
        """Returns how the check ends, and what it says."""
        run = subprocess.run(["sh", "proto/breaking.sh"], cwd=self.folder, capture_output=True, text=True, check=False)
        return run.returncode, run.stdout + run.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    program("git", "git")
    return Checkout(tmp_path / "checkout")


def test_a_change_that_is_not_committed_yet_is_compared_with_main(checkout: Checkout) -> None:
    for _ in range(2):
        checkout.commit()
    assert checkout.check() == (0, "")
    checkout.rename_a_field()
    code, said = checkout.check()
    assert code == 1
    assert 'changed name from "name" to "renamed"' in said
    assert "a client of main would not understand this contract" in said


def test_the_last_commit_of_main_is_compared_with_the_one_before_it(checkout: Checkout) -> None:
    checkout.commit()
    checkout.rename_a_field()
    checkout.commit()
    code, said = checkout.check()
    assert code == 1
    assert "a client of HEAD^ would not understand this contract" in said


def test_a_branch_is_compared_with_main_alone(checkout: Checkout) -> None:
    checkout.commit()
    checkout.rename_a_field()
    checkout.commit()
    checkout.git("checkout", "-b", "feature")
    checkout.commit()
    assert checkout.check() == (0, "")


def test_a_shallow_clone_of_main_says_what_it_cannot_compare(checkout: Checkout) -> None:
    checkout.commit()
    code, said = checkout.check()
    assert code == 0
    assert "the last commit of main is not compared" in said


def test_where_there_is_no_repository_nothing_is_compared(checkout: Checkout) -> None:
    code, said = checkout.check()
    assert code == 0
    assert "skipped, there is no main branch to compare with" in said
