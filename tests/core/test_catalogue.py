"""What can be broken on purpose: every mutant, alone or with others that break another rule."""

from __future__ import annotations

import re

import pytest

from raft.core.rules import Rules
from raft.storage.wal import Wal
from raft.testing.catalogue import broken, catalogue
from raft.testing.mutants import MUTANTS
from raft.testing.store_mutants import STORE_MUTANTS


def test_it_lists_every_mutant_of_raft_and_of_its_log_with_what_it_breaks_and_where() -> None:
    assert set(catalogue()) == {*MUTANTS, *STORE_MUTANTS}
    for rule in catalogue().values():
        assert rule.what[0].isupper()
        assert "§" not in rule.what
        assert rule.section.split()[0] in ("thesis", "end", "Figure", "AppendEntries") or (
            rule.section[0] == "§"
        )
    twice = catalogue()["vote-twice"]
    assert twice.section == "§5.2"
    assert twice.what.startswith("Votes for whoever asks, even after voting for another: two")


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_each_can_be_broken_alone(name: str) -> None:
    found = broken([name])
    rules, store = MUTANTS.get(name, Rules), STORE_MUTANTS.get(name, Wal)
    assert isinstance(found.rules, rules)
    assert issubclass(found.store, store)


def test_several_rules_are_broken_together_and_the_others_kept() -> None:
    found = broken(["vote-twice", "half-is-a-quorum", "fsync-skipped", "vote-twice"])
    assert found.rules.may_vote_for(3, 2)
    assert found.rules.quorum(4) == 2
    assert found.rules.next_term(1) == 2
    assert issubclass(found.store, STORE_MUTANTS["fsync-skipped"])
    sound = broken([])
    assert not sound.rules.may_vote_for(3, 2)
    assert sound.store._sync is Wal._sync


def test_what_cannot_be_broken_is_named() -> None:
    with pytest.raises(ValueError, match="no rule 'gravity'"):
        broken(["gravity"])
    with pytest.raises(ValueError, match="vote-twice and repeated-vote-refused break the same"):
        broken(["vote-twice", "repeated-vote-refused"])


def test_what_a_broken_rule_does_reads_as_a_sentence_without_its_section() -> None:
    for one in catalogue().values():
        assert not re.search(r"  | [.,:]|[()]$", one.what), one.what
