"""What breaks a sharded PostgreSQL behind a gateway, case by case, and what proves here that it does not.

*Switched off*: the remedy was taken out of the source, this test failed, and the remedy was put back.

==== =================================================== ====================================================== ====================
case what goes wrong                                     proof                                                  switched off
==== =================================================== ====================================================== ====================
1    a partition's name goes past row security           `integration/test_rights_everywhere.py`                `_Row.plain`
2    bodies see one group's rows                         `integration/test_bodies.py`                           `refuse_new`
3    a stale route                                       `integration/test_control_service.py`                  `Watchers.behind`
4    a DEFAULT partition takes others' rows              `integration/test_partitions_over_groups.py`           `guard_defaults`
5    a key's UPDATE fires ON DELETE                      `integration/test_key_updates.py`                      `_refuse_move`
6    settings leak through the pool                      `e2e/test_session_leaks.py`                            state of `neutral`
7    PREPARE TRANSACTION in a pipeline commits           `integration/test_pipelines.py`                        `_block`
8    temporary tables that hide real names               `integration/test_workspace.py`                        `hanse.flatten`
9    whose rights a gathered row is read with            `integration/test_rights_everywhere.py`                `owners_rows`
10   types' OIDs differ                                  `integration/test_equal_type_oids.py`                  `Alignment`
11   the catalog of one group                            `integration/test_maintenance.py`                      home group answers
12   dumps, and what ORMs change                         `clients/test_pg_dump.py`                              shards made at once
13   grants and owners stay at the parent                `integration/ddl/test_ddl_objects.py`                  `mirror_everywhere`
14   names that an alias does not keep                   `integration/test_named_partitions.py`                 `_columns_allow`
15   foreign keys of tables that move                    `integration/ddl/test_ddl_tables.py`                   `linked`
16   a verifier of its own in each group                 `e2e/test_credentials.py`                              `with_verifier`
17   a prepared transaction's limits                     `e2e/test_transaction_findings.py`                     `_home_last`
18   a schema change in the middle of others             `integration/test_schema_change_under_load.py`         its lock_timeout
19   sequences in triggers and functions                 `integration/test_sequences.py`                        `park`
20   copies of a reference table differ                  `integration/test_reference_tables.py`                 the order of groups
21   the locale of the environment                       `integration/test_named_partitions.py`                 initdb's locale
22   what a plan's key must hold                         `integration/test_sessions.py`                         `Plans` by context
23   prepared statements without end                     `e2e/test_prepared_memory.py`                          the LRU's end
24   a late cancel                                       `unit/gateway/test_pool.py`                            `Pool.release`
25   dependent objects where not all parts are           `integration/ddl/test_ddl_tables.py`                   `_located`
26   parents are never analysed                          `integration/test_maintenance.py`                      its ANALYZE
==== =================================================== ====================================================== ====================
"""

from __future__ import annotations

import re
from pathlib import Path

CASES = 26
TESTS = Path(__file__).parent.parent


def test_every_case_has_a_proof_that_is_there() -> None:
    proofs = dict(re.findall(r"^(\d+) .*?`([a-z_0-9/]+\.py)`", __doc__ or "", re.MULTILINE))
    assert list(proofs) == [str(number) for number in range(1, CASES + 1)]
    assert [proof for proof in proofs.values() if not (TESTS / proof).is_file()] == []
