"""What ``import raft`` offers, and that it costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import raft


@pytest.mark.parametrize("name", raft.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(raft, name).__doc__


def test_the_lists_of_names_agree() -> None:
    assert sorted(raft._HOME_OF) == raft.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'raft' has no attribute 'Paxos'"):
        raft.Paxos  # noqa: B018


def test_importing_the_package_loads_none_of_it() -> None:
    program = "import sys, raft; print(*(m for m in sys.modules if m.startswith('raft')))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert loaded.stdout.split() == [b"raft"]
