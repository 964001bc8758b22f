//! Every limit of the core, in one place, with its arithmetic.
//!
//! `tests::sizes_add_up` proves by construction that an entry never exceeds [`MAX_ENTRY_LEN`] and a Raft entry never
//! exceeds [`MAX_BATCH_LEN`]. What happens one past each limit is said beside it.

/// Longest signed command other than a bundle chunk, in bytes. One more: refused.
pub const MAX_SIGNED_COMMAND_LEN: usize = 24 * 1024;

/// Longest signed `PublishBundle`, in bytes: a chunk of 48 KiB, signatures and header. One more: refused.
pub const MAX_SIGNED_CHUNK_LEN: usize = 52 * 1024;

/// Longest entry in bytes. C2SP tlog-tiles bundles carry at most 65,535; the rest is reserve for future fields.
pub const MAX_ENTRY_LEN: usize = 60_000;

/// Longest Raft entry in bytes. A batch is closed before it would exceed this.
pub const MAX_BATCH_LEN: usize = 2 * 1024 * 1024;

/// Most submissions in one Raft entry.
pub const MAX_BATCH_SUBMISSIONS: usize = 4_096;

/// Longest INPUT or EXECUTED_INPUT compartment in bytes. One more: `INPUT_TOO_LARGE`, without transporting it.
pub const MAX_INPUT_LEN: u64 = 256 * 1024;
/// Longest OUTPUT compartment in bytes. One more: the outcome is kept, the content is not.
pub const MAX_OUTPUT_LEN: u64 = 64 * 1024;
/// Longest RESOURCE compartment in bytes. One more: `INPUT_TOO_LARGE`.
pub const MAX_RESOURCE_LEN: u64 = 16 * 1024;
/// Longest CONTEXT compartment in bytes. One more: the opening is rejected.
pub const MAX_CONTEXT_LEN: u64 = 32 * 1024;
/// Longest REASON compartment in bytes. One more: the command is rejected.
pub const MAX_REASON_LEN: u64 = 4 * 1024;

/// Longest submission in bytes: a signed command with every compartment it could have (256 KiB input, 64 KiB output), and
/// the framing of both. One more: refused before it is replicated.
pub const MAX_SUBMISSION_LEN: usize = MAX_SIGNED_CHUNK_LEN + 2 * (256 * 1024) + 64 * 1024 + 1024;

/// Longest id of an operator, agent or gateway, in bytes.
pub const MAX_ID_LEN: usize = 256;
/// Longest namespace name in bytes.
pub const MAX_NAMESPACE_LEN: usize = 128;
/// Longest action id in bytes: server, "/", name.
pub const MAX_ACTION_LEN: usize = 513;
/// Longest name of an attribute, grant or claim, and longest id of a halt, in bytes.
pub const MAX_NAME_LEN: usize = 128;
/// Longest value of an attribute, and longest label, in bytes.
pub const MAX_VALUE_LEN: usize = 1_024;
/// Most groups, attributes, owners, scope patterns or parents in one list.
pub const MAX_LIST_LEN: usize = 64;
/// Most targets a gateway acts for.
pub const MAX_ACTS_FOR: usize = 256;
/// Most keys of one identity that are not retired.
pub const MAX_KEYS_PER_IDENTITY: usize = 8;
/// Most signatures on a command.
pub const MAX_SIGNATURES: usize = 4;
/// Most halts in force.
pub const MAX_HALTS: usize = 1_000;
/// Most replicas.
pub const MAX_NODES: usize = 9;
/// Most compartments in one erasure.
pub const MAX_ERASE: usize = 256;
/// Deepest child session; a session without a parent has depth 0.
pub const MAX_SESSION_DEPTH: u32 = 8;

/// Length of a bundle chunk, except for the last, in bytes.
pub const BUNDLE_CHUNK_LEN: usize = 48 * 1024;
/// Most chunks of a bundle: 8 MiB in chunks of 48 KiB.
pub const MAX_BUNDLE_CHUNKS: u32 = 171;
/// Most bundles of one namespace whose publication has begun and not ended.
pub const MAX_PENDING_BUNDLES: usize = 16;
/// Most bundles whose rules' history one namespace keeps; the active one is always among them.
pub const MAX_TRACKED_BUNDLES: usize = 4;

/// Most determining rules that an entry names; it has the count and a digest of all.
pub const MAX_RULES_IN_ENTRY: usize = 64;
/// Most conditions in an entry. With more, the request is denied: a condition must not get lost.
pub const MAX_CONDITIONS: usize = 32;
/// Most approver groups in an escalation.
pub const MAX_APPROVERS: usize = 16;
/// Longest condition (type and value together), and longest approver group, in bytes.
pub const MAX_CONDITION_LEN: usize = 512;

/// How far the clocks of two nodes may differ, in microseconds: 2 seconds. A node accepts and cosigns no entry that is further ahead
/// of its own clock.
pub const MAX_CLOCK_OFFSET_US: u64 = 2 * SECOND_US;
/// How far `issued_at` may be from entry time, in microseconds: 5 minutes.
pub const FRESHNESS_US: u64 = 5 * 60 * SECOND_US;
/// Lifetime of a session that states none, in seconds.
pub const DEFAULT_SESSION_TTL_S: u32 = 3_600;
/// Longest lifetime of a session, in seconds.
pub const MAX_SESSION_TTL_S: u32 = 86_400;
/// Lifetime of a permit, in seconds, unless a rule's `@permit_ttl` says otherwise.
pub const DEFAULT_PERMIT_TTL_S: u32 = 60;
/// Longest lifetime of a permit, in seconds.
pub const MAX_PERMIT_TTL_S: u32 = 900;
/// How long an escalation can be approved, in seconds.
pub const ESCALATION_TTL_S: u32 = 3_600;
/// Longest lifetime of an agent's or gateway's key, in microseconds: 400 days.
pub const MAX_KEY_LIFETIME_US: u64 = 400 * 86_400 * SECOND_US;
/// The last moment the ledger can express, in microseconds since 1970 (year 2262): a thousandth of the greatest signed
/// number of nanoseconds, because event times are nanoseconds.
pub const MAX_TIME_US: u64 = 9_223_372_036_854_774;
/// How far clocks must be behind the last entry before admins can adjust the ledger's time, in microseconds: as far as a node waits
/// for by itself. Less: the command is rejected.
pub const MIN_TIME_ADJUSTMENT_US: u64 = 5 * SECOND_US;
/// How far the ledger's time can come to be ahead of clocks, in microseconds: 20 years, which a clock in 1970 is not behind by. More:
/// the command is rejected.
pub const MAX_TIME_OFFSET_US: u64 = 20 * 365 * 86_400 * SECOND_US;
/// Expired history partitions removed with one command.
pub const SWEEP_PER_COMMAND: usize = 4;
/// Records of one of them removed with one command.
pub const SWEEP_RECORDS_PER_COMMAND: usize = 256;

/// Microseconds in a second.
pub const SECOND_US: u64 = 1_000_000;
/// The longest window of a rule, in microseconds: the `max_window` of the event schema that every bundle is compiled under.
pub const MAX_WINDOW_US: u64 = 30 * 86_400 * SECOND_US;

/// Stack that applying a command needs, in bytes. The deepest rule that a bundle can hold evaluates on 1 MiB (a test of
/// `policy-engine` does it), and Cedar gives up on a rule when little stack is left; a replica with less than this could
/// answer differently from the others.
pub const MIN_STACK_LEN: usize = 2 * 1024 * 1024;
