"""SERIALIZABLE over several groups: what each group's own SERIALIZABLE lacks, and how little it takes to add it.

**What is missing.** PostgreSQL's SSI (Cahill, Röhm, Fekete 2008; Ports, Grittner 2012) lets one anti-dependency T → M pass,
T having read what M overwrote, because a cycle needs two of them in a row. Over groups the two may lie in different
servers, each of which sees one: T reads a in g1 and writes b in g2, M reads b in g2 and writes a in g1; both commit. Read
locks on rows do not help against rows that are not there, and cost the reader rights that he need not have
(findings-transactions A2, D21).

**What is added.** While T commits, a *witness* is open in every group that T has used: a session of the system at
SERIALIZABLE that has read `hanse.touch`. Before T prepares in a group it *marks* itself there: it inserts a row into
`hanse.touch`, and takes it back by a savepoint. So witness → T is an anti-dependency of that group, and T → M behind it
makes

    witness → T → M

the structure that SSI never lets happen when M is the first of the three to commit. The witness stays until T's commit is
visible everywhere. All groups that T has used take part in the commit, those where it has only read too, for it is the
prepare that SSI judges by::

    g1, g2  BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM hanse.touch      ← witnesses
    g1      SAVEPOINT …; INSERT INTO hanse.touch …; ROLLBACK TO SAVEPOINT …; PREPARE TRANSACTION gid
    g2      SAVEPOINT …; INSERT INTO hanse.touch …; ROLLBACK TO SAVEPOINT …; record; COMMIT     ← the decision
    g1      COMMIT PREPARED gid
    g1, g2  ROLLBACK                                                          ← witnesses

**Why that is serializable.** Let T, M, … be transactions over several groups at SERIALIZABLE that write. Where T → M in a
group, by any kind of dependency, *T is decided before M prepares in that group*. For a dependency on what T wrote, because
M can only meet it when T is visible. For an anti-dependency: if M prepares while T has not prepared, T is cancelled, there
and then or when it marks itself; if M does so while T is prepared but not committed, M is cancelled ("conflict in from
prepared pivot"); so T had committed there, hence was decided. Every prepare of M comes before its decision; so decisions
are ordered as dependencies are, and there is no cycle: commitment ordering (Raz 1992), with SSI's own bookkeeping as its
judge.

Transactions X in one group, at SERIALIZABLE, may stand between them: T → X1 → … → M inside a group. Suppose M commits there
before T. The first Xj whose successor on the path commits before T commits later than T itself (as T → X1 is ordered, by
the above, and the others by the choice of j); so Xj → Xj+1 is an anti-dependency, against the order of commits. The edge
into Xj cannot be a dependency on what was written, for then its source would have committed before Xj's snapshot, hence
before Xj+1, hence before T. So it is an anti-dependency too, and Xj is a pivot whose successor was the first to commit: SSI
has cancelled one of them. Its exemption, a first of the three that only reads and has a snapshot older than the last one's
commit, does not arise: such a one has seen T, or what has seen T, and so begun after T's commit.

A transaction that only reads has one snapshot of all groups (`snapshots.py`), and stands in the order where that was taken:
what it sees was decided before, what it does not see is decided after, through paths inside a group by the same argument.

**When something dies.** With the gateway its witnesses end, before or after the decision: undecided branches are aborted by
recovery; decided ones are decided, which is all that the argument wants of later prepares. After a crash of a group
PostgreSQL takes every prepared transaction for a pivot. A witness that has gone while its gateway lives is looked for right
before the decision, which then is to abort; only one that goes in the instant of the decision itself is not noticed.

*What this is not.* Transactions at lower levels are in nobody's order, as in PostgreSQL. A transaction that has read what
another has overwritten since is cancelled, whether or not there would have been a cycle. `hanse.read_consistency = fast`
leaves transactions that write as they are, but those that only read lose their one snapshot.
"""

from __future__ import annotations

# A sample of nothing: the lock on the table is all that is wanted, not its dead rows.
WITNESS = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM hanse.touch TABLESAMPLE SYSTEM (0)"
END_WITNESS = "ROLLBACK"
MARK = "SAVEPOINT hanse_mark; INSERT INTO hanse.touch DEFAULT VALUES; ROLLBACK TO SAVEPOINT hanse_mark"
