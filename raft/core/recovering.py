"""A server that lost entries of its log, and how it becomes a voter again.

Raft counts on what a server acknowledged to be there for ever (Figure 2, persistent state).
A disk that ages can break that. A server whose log is damaged, but whose term and vote are
certain, can still be of use, if it takes care: it keeps what of its log can be read, enters a
*fresh term* one above its own, and is *recovering*. Until that is over it gives no vote and no
pre-vote, and starts no election; in all else it is a follower, and a leader repairs its log.

It is over when it has stored a committed entry of the fresh term or a later one. Why that is
safe: let ``e`` be an entry that is committed, or will be, with the help of what this server
acknowledged before::

    term t     the quorum that commits e:  this server (lost it), A, B
    term t+1   this server is recovering in its fresh term, and refuses leaders up to t
    term ≥ t+1 the quorum that elects the next leader:  B, C, D      without this server

Two quorums have a server in common, be they of one configuration or of neighbouring ones. One
of these two is without this server, so it is another one that they share, here B. It acknowledged
``e`` in term t or before, hence before it gave its vote in a later term; so the new leader has
``e``, as Leader Completeness says (§5.4.3). Whatever that leader appends comes behind ``e``, and
by Log Matching (§5.3) a log that holds such an entry holds ``e``. When the entry is committed it
stays, and then this server has all that it ever helped to commit. From there on it is as any
other: it has voted for nobody in its fresh term, nor in a later one.

The fresh term is what makes a leader step down that still counts the old acknowledgements; it
would not repair this server, to which it believes its entries to have come.

The others must be able to elect a leader without this server. Where they cannot (it is alone,
or one of two) it would wait for ever; a store refuses to begin this then.
"""

from __future__ import annotations

from raft.core.log import HardState
from raft.core.messages import Term

UNFIT_TO_VOTE = "this server lost entries of its log and has not got them back yet"


def begin(certain: HardState) -> HardState:
    """Return the state of a server that begins to recover, from its last term and vote."""
    fresh = Term(certain.term + 1)
    return HardState(fresh, None, recovering=fresh)
