"""Every bound of the system, by name. A queue, pool, batch or retry without a name here is a bug."""

from __future__ import annotations

# Wire protocol
MESSAGE_BYTES_MAX = 0x3FFFFFFF  # 1 GiB - 1, PostgreSQL's own limit on one message (PQ_LARGE_MESSAGE_LIMIT)
SMALL_MESSAGE_BYTES_MAX = 10_000  # of a kind that has no business to be long (PQ_SMALL_MESSAGE_LIMIT)
STARTUP_BYTES_MAX = 10_000  # PostgreSQL's MAX_STARTUP_PACKET_LENGTH
AUTH_MESSAGE_BYTES_MAX = 65_535  # before authentication nobody may make us hold more (PG_MAX_AUTH_TOKEN_LENGTH)
AUTHENTICATION_TIMEOUT_S = 60.0  # PostgreSQL's default authentication_timeout
LONG_MESSAGE_BYTES = 1 << 20  # of one message of a client: from here on it counts against
LONG_MESSAGES_BYTES_MAX = 1 << 30  # of such messages that one gateway worker holds at a time; more wait,
LONG_MESSAGE_WAIT_S_MAX = 60.0  # then 53200
PIPELINE_BYTES_MAX = 1 << 20  # of extended-protocol messages held for their Sync; longer pipelines run as they come

# SQL
STACK_BYTES = 96 << 20  # of a gateway worker, for walking a statement's tree
STATEMENT_DEPTH_MAX = 8_000  # levels of a statement's tree; about where PostgreSQL's own stack ends (max_stack_depth)

# Gateway
TLS_FILES_PERIOD_S = 2.0  # a certificate that was replaced is used after so long
CLIENTS_MAX = 5_000  # per gateway worker
UNAUTHENTICATED_MAX = 1_000  # clients of one worker that have not logged in
UNAUTHENTICATED_S_MIN = 2.0  # so long anybody may take to log in, even while others wait at the door
CLOSING_S_MAX = 5.0  # for a client to read what was sent before his connection ended
BACKENDS_PER_PLACE_MAX = 64  # connections of one gateway worker to one group
BACKEND_IDLE_S_MAX = 300.0
BACKEND_WAIT_S_MAX = 30.0  # for a free backend, before 53300
CONNECT_TIMEOUT_S = 10.0
CLIENT_BUFFER_BYTES_MAX = 1 << 20  # unsent bytes to one client before its backends are paused
PLAN_CACHE_ENTRIES_MAX = 4_096
PLAN_CACHE_BYTES_MAX = 32 << 20  # of the texts that one plan cache keeps
CONTEXTS_MAX = 1_024  # search paths and users of one gateway worker whose plans are kept
PREPARED_PER_BACKEND_MAX = 500
PREPARED_BYTES_PER_BACKEND_MAX = 2 << 20  # of their texts; what PostgreSQL keeps of one is a multiple of its text
STATEMENTS_PER_CLIENT_MAX = 65_536
CUSTOM_SETTINGS_MAX = 256  # of one session, whose names are kept after their values are gone

COMMITS_END_S_MAX = 1.5  # for atomic commits under way when a gateway ends; within GATEWAY_STOP_S

# Transactions
RESOLVE_WAIT_S_MAX = 10.0  # a client waits for the word of a decider that was lost, before 08007
RESOLVE_PAUSE_S = 0.2
LOST_COMMIT_WAL_BYTES_MAX = 64 << 20  # are read to find out what became of a COMMIT
POSITIONS_PERIOD_S = 0.5  # between two questions how far a group's server has come
POSITIONS_ASK_S_MAX = 2.0
MARKS_PER_PERIOD = 250  # commits of a gateway worker in POSITIONS_PERIOD_S that are marked on the fast way
PREPARED_WAIT_S_MAX = 0.1  # for a lock, with a part elsewhere prepared; and in line for a shared commit
SHARED_COMMIT_BYTES_MAX = 1 << 20  # of rows of several clients that are inserted in one transaction
SHARED_COMMITS_UNDER_WAY = 2  # of the same kind at a time; who comes meanwhile waits in line
SNAPSHOT_WAIT_S_MAX = 20.0  # a reader of several groups waits for commits that have not ended, before 55P03
SNAPSHOT_TAKE_S_MAX = 2.0  # for the snapshots, once the gates are held: commits wait meanwhile
SYSTEM_SESSIONS_IDLE_MAX = 4  # per group, gateway worker and purpose
MEMBER_START_S_MAX = 20.0  # for an instance of a group of several to lead or follow, before its node goes on
GROUP_HELD_S_MAX = 10.0  # for which a statement waits for a group that cannot be reached
GROUP_PROBE_S_MIN, GROUP_PROBE_S_MAX = 0.02, 0.25  # between two tries to reach it
CONFLICT_RETRIES_MAX = 8  # of a statement of its own that met another transaction (40001, 40P01)
CONFLICT_PAUSE_S = 0.01  # before the first of them; it grows
RETURNING_HELD_BYTES_MAX = 1 << 20  # of a result that is held back so that its statement can be run again
DEADLOCK_ASK_S_MAX = 2.0  # for one look; then its connections are given up
DEADLOCK_LOOK_S = 0.03  # between two looks at transactions over several groups that do not go on
PREPARED_AGE_S_MIN = 10.0  # of a prepared branch, before recovery takes it for abandoned
PREPARED_END_S_MAX = 15.0  # for the prepared transactions of a group that is dropped to end: recovery does it meanwhile
RECOVERY_PERIOD_S = 2.0
RECOVERY_LOCK_WAIT_S_MAX = 5.0  # for a decider that is making its record at this moment
COMMIT_S_MAX = 1800.0  # from a gid to its decision; half of RECORD_AGE_S_MIN, the rest is for clocks that are set
RECORD_AGE_S_MIN = 3600.0  # of a commit record, before it is asked whether anybody still needs it
RECORDS_PERIOD_S = 600.0
RECORDS_PER_TURN_MAX = 10_000
GROUP_STATE_S_MAX = 2.0  # for a leader to tell how its followers are
JOBS_PERIOD_S = 5.0  # between two looks for statements over groups whose gateway is gone,
JOB_AGE_S_MIN = 10.0  # and that nobody has touched for so long
JOB_LOCK_WAIT_S_MAX = 5.0  # for a table, to remove what such a statement has left
IN_DOUBT_ASK_S_MAX = 5.0  # for one group's word on its prepared transactions; then it counts as away

# hanse.retry, in users' programs
RETRY_ATTEMPTS_MAX = 10
RETRY_PAUSE_S_MIN = 0.01  # about so long after the first failure, twice as long after each further one
RETRY_PAUSE_S_MAX = 1.0

# Executor
RESULT_MEMORY_BYTES_MAX = 16 << 20  # of one buffered result before it spills to disk
INSERT_ROWS_PER_STATEMENT_MAX = 1_000
RESULT_COLUMNS_MAX = 1_600  # of one question of ours; PostgreSQL's MaxTupleAttributeNumber is 1,664
WITH_ROWS_BYTES_MAX = 16 << 20  # of rows that one writing WITH query gives to the statement after it
WORKSPACE_SLOTS_PER_WORKER = 4
KEY_HASHES_CACHED_MAX = 16_384  # of short text keys (64 bytes), per process
COPY_BATCH_BYTES = 256 << 10  # of a COPY stream, split by shard at a time

# Control plane
CONTROL_MESSAGE_BYTES_MAX = 256 << 20
DDL_LOCK_WAIT_S_MAX = 60.0
SCHEMA_LOCK_WAIT_S_MIN = 0.5  # a schema change waits so long for a lock before it lets others pass, twice as long the
SCHEMA_LOCK_WAIT_S_MAX = 4.0  # next time, up to this
SCHEMA_CHANGE_WAIT_S_MAX = 50.0  # in all; then 55P03
CATALOG_ACK_WAIT_S_MAX = 10.0
FREEZE_WAIT_S_MAX = 30.0  # for every gateway to finish what it runs on frozen relations
CONTROL_LEASE_S = 4.0  # of a gateway, from its last ping that was answered; the service waits as long for it
CONTROL_PING_S = 1.0
CONTROL_MARGIN_S = 1.0  # before a lease's end: what a gateway sends until then has begun when the lease is over
CATALOG_WAIT_S_MAX = 5.0  # of a statement without a lease, for a schema change that is under way; then 57P03
CATALOG_POLL_S = 0.05
CATALOG_LOCK_WAIT_S_MAX = 5.0  # of a schema change, for such statements; then 55P03
CONTROL_HANDSHAKE_S_MAX = 5.0
CONTROL_REQUEST_WAIT_S_MAX = 5.0  # for a connection, before a request fails with 57P03
CONTROL_RECONNECT_S_MAX = 0.5
CONTROL_STRAGGLERS_S_MAX = 2.0  # for further answers, when one of several nodes does not lead or does not answer
CONTROL_VACATE_S_MAX = 0.5  # for a leader that ends to say that it has no clients
VOTERS_PERIOD_S = 1.0  # between two looks at whether the right nodes have votes in the control plane
REMOVED_VOTE_S_MAX = 15.0  # for the vote of a node that was removed to be taken from it; then it ends with it
JOIN_S_MAX = 30.0  # for a cluster to let a node in
JOIN_TOKEN_S = 3600.0  # for which a token is good, if nothing else is said
CONTROL_VOTERS_MAX = 5  # a further one would make the loss of no more nodes bearable, and every change slower
CONTROL_CLIENTS_MAX = 1_000
CONTROL_REQUESTS_PER_CLIENT_MAX = 64  # under way at a time; more wait in the socket
DDL_LOG_PAGE_BYTES = 8 << 20
DDL_LOG_KEPT_MAX = 1_000  # entries in a gateway's memory, for a workspace that follows them later

# Consensus
RAFT_APPEND_BYTES_MAX = 1 << 20  # of commands in one message
RAFT_APPENDS_IN_FLIGHT_MAX = 32  # messages to one follower without an answer
RAFT_UNCOMMITTED_BYTES_MAX = 64 << 20  # of proposals; more are refused
RAFT_COMMAND_BYTES_MAX = 64 << 20
RAFT_SNAPSHOT_BYTES_MAX = 256 << 20
RAFT_SNAPSHOT_CHUNK_BYTES = 1 << 20
RAFT_TRAILING_ENTRIES = 1_000  # kept before a snapshot's end, for followers that are a little behind,
RAFT_TRAILING_BYTES = 16 << 20  # and no more than so much of them
RAFT_CAUGHT_UP_ENTRIES_MAX = 100  # a learner that lacks no more may become a voter
RAFT_READS_MAX = 10_000  # that wait for the leader's word
RAFT_SNAPSHOT_ENTRIES = 10_000  # applied since the last snapshot, before the next,
RAFT_SNAPSHOT_LOG_BYTES = 64 << 20  # or so much of them
RAFT_FRAME_BYTES_MAX = 128 << 20
RAFT_QUEUE_BYTES_MAX = 64 << 20  # of messages to one node; further ones are dropped
RAFT_CONNECTIONS_MAX = 256
RAFT_CONNECT_S_MAX = 2.0
RAFT_RECONNECT_S_MIN = 0.05
RAFT_RECONNECT_S_MAX = 1.0
RAFT_ANSWER_S_MAX = 10.0  # for a proposal or a read, before 57P03 or 08007
RAFT_RETRY_PAUSE_S = 0.05
ETCD_LEASE_S = 3.0  # of the leader's key: after so long another leads in the place of one that has died
ETCD_LAST_WORD_S = 0.5  # before the lease ends, a leader gives up proposals of which etcd was sent nothing
ETCD_POLL_S = 0.3  # between two looks at the log: of five nodes, seventeen small reads a second
ETCD_REQUEST_S_MAX = 2.0  # for one server of etcd to answer, before the next one is asked
ETCD_REACH_S_MAX = 5.0  # to answer before a cluster starts; an etcd that is not there says so at once
ETCD_ANSWER_S_MAX = 10.0  # for a proposal or a read, before 57P03 or 08007
ETCD_INLINE_BYTES_MAX = 64 << 10  # of a command that is in its entry; longer ones lie beside it,
ETCD_PART_BYTES = 1 << 20  # as snapshots do, in parts of so much: etcd takes 1.5 MiB in one request
ETCD_PAGE_ENTRIES = 32  # of the log, that are read at a time
ETCD_SNAPSHOT_ENTRIES = 1_000  # applied since the last snapshot, before the next,
ETCD_SNAPSHOT_LOG_BYTES = 16 << 20  # or so much of them

# Workspace
WORKSPACE_WAIT_S_MAX = 30.0  # for a free slot, before 53400
WORKSPACE_BYTES_PER_QUERY_MAX = 4 << 30  # binary COPY bytes that one query may load
MAIN_HOLD_S_MAX = 0.3  # new statements in the main database wait so long while it is to be copied, then are let in
WORKSPACE_CLONE_S_MAX = 30.0  # for the main database to be free of other sessions
WORKSPACE_CLEAN_S_MAX = 5.0  # for the truncation after a query; then the slot is dropped and made anew
WORKSPACE_PARTIALS_PER_SLOT_MAX = 32  # tables for partial rows that a slot keeps for statements of the same shape
REPLAY_LOCK_WAIT_S_MAX = 60.0  # for a schema change under way in the main database

# Replication
INSTANCES_PER_GROUP_MAX = 7
LEASE_S = 2.0  # a leader serves for so long after its followers were asked, if enough of them renewed
CLOCK_DRIFT_MAX = 0.02  # by which the rate of a machine's monotonic clock may be wrong
HEARTBEAT_S = 0.4  # between two questions of a leader for its lease
LEADERS_PERIOD_S = 0.5  # between two questions of a gateway, who leads a group of several
LEADERS_LOST_PERIOD_S = 0.03  # the same while one cannot be reached, or its leader has no lease that is known
LEADER_SAMPLES_MAX = 64  # positions of a leader that a gateway remembers, to tell how old a follower's rows are
FOLLOWER_WAIT_S_MAX = 0.02  # for a follower to replay what a read must see; then the leader serves it
FOLLOWER_LATE_S = 0.1  # for which one that was waited for in vain is not tried again
FOLLOWERS_ASK_S_MAX = 1.5  # for a position; then the server counts as away, and its connections are given up
FOLLOWERS_IDLE_S = 10.0  # without a read from followers, and a gateway no longer asks where they are
PROBE_S = 0.5  # between two writes by which an agent tries its leading server
PROBE_SILENCE_S_MIN = 2.5  # of that server, however regular it was; SUSPICION_S_MAX at the most
PROMOTION_S = 0.5  # about what a promotion takes: the end of an earlier leader's lease is waited for meanwhile
SLOT_WAL_BYTES_MAX = 4 << 30  # that a leader keeps for a follower that is away; one that needs more is copied anew
STREAMLESS_S_MAX = 5.0  # for which a follower may have no stream, before it looks why
FOUNDING_CUT_S_MAX = 10.0  # for a new group's copy to have what was written to reference tables; else it is tried again
SWITCHOVER_BEHIND_BYTES_MAX = 1 << 20  # that a successor may lack of the leader's WAL when a switchover begins
JOIN_BEHIND_BYTES_MAX = 16 << 20  # that a new member may lack of the leader's WAL when the rule begins to count it
SWITCHOVER_READY_S_MAX = 20.0  # for a successor to come so near
SWITCHOVER_DRAIN_S_MAX = 2.0  # for open transactions of a group to end, before it has another leader all the same
PREFERRED_S_MAX = 2.0  # for the successor that was asked for to report; then another may lead
SWITCHOVER_S_MAX = 15.0  # for the next leader to serve
SUSPICION_PHI = 8.0  # of a leader that is not heard of: heartbeats come so late once in 10 to the power of it
SUSPICION_S_MIN, SUSPICION_S_MAX = 1.5, 4.0  # of silence, whatever the heartbeats were like before
SUSPICION_STAGGER_S = 0.5  # between the followers of one group, so that one begins
SUSPICION_HEARTBEATS = 50  # whose intervals are remembered
SUSPICION_DEVIATION_S_MIN = 0.1  # of intervals that were all alike
PEER_CONNECTIONS_MAX = 5_000  # of one member: every agent of the group and every gateway worker has one
PEER_ANSWER_S_MAX = 5.0  # for a member to stop streaming and report; heartbeats are given HEARTBEAT_S
PEER_IDLE_S_MAX = 60.0  # for the next question over one connection; whoever asks later calls again
PEER_MESSAGE_BYTES_MAX = 1 << 20

# Agent
HTTP_REQUEST_BYTES_MAX = 8 << 10  # request line and headers
HTTP_REQUEST_S_MAX = 5.0
HTTP_CONNECTIONS_MAX = 64  # of one node; more are closed at once
ANALYZE_PERIOD_S = 30.0  # between looks for partitioned tables whose statistics are old
ANALYZES_PER_TURN_MAX = 100
SIZES_PERIOD_S = 30.0  # between looks at the groups' sizes and row estimates
SIZES_LOCK_WAIT_S_MAX = 2.0  # for schema changes under way, before it is left for the next time
NODES_MAX = 64  # of a local cluster
NODE_LABELS_MAX = 16  # of one node, and of one location
GROUPS_MAX = 64
GATEWAY_WORKERS_MAX = 64
RESTARTS_IN_A_ROW_MAX = 10  # after so many the pause stops growing
RESTART_PAUSE_S_MIN = 0.1
RESTART_PAUSE_S_MAX = 10.0
HEALTHY_AFTER_S = 30.0  # alive for so long, and earlier restarts are forgotten
START_FAILURES_MAX = 3  # of one part before the cluster was ever ready; then `hanse up` gives up
START_TIMEOUT_S = 90.0  # for a whole cluster to answer
GATEWAY_STOP_S = 3.0  # for its clients' statements to end after SIGTERM, before SIGKILL
AGENT_STOP_S = 40.0  # for gateways and instances to end in order
PORTS_TRIED_MAX = 100
LOG_FILE_BYTES_MAX = 10 << 20  # of a process's log before it is put aside
