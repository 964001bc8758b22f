//! Every bound on what may be fed to this crate, in one place.
//!
//! A bound here is part of what every replica must agree on: changing one changes which bundles and arguments are accepted,
//! and so needs a new engine version. Sizes are in bytes unless their name says otherwise.

/// A packed bundle, all files together.
pub const MAX_BUNDLE_BYTES: usize = 8 * 1024 * 1024;
/// Files of one bundle.
pub const MAX_BUNDLE_FILES: usize = 1_024;
/// One path inside a bundle.
pub const MAX_PATH_BYTES: usize = 256;
/// What one chunk entry of a published bundle carries.
pub const CHUNK_BYTES: usize = 48 * 1024;
/// The name of a bundle.
pub const MAX_NAME_BYTES: usize = 128;

/// The schema text of a bundle, written by hand or generated.
pub const MAX_SCHEMA_BYTES: usize = 4 * 1024 * 1024;
/// Actions of one schema, groups included.
pub const MAX_ACTIONS: usize = 2_000;
/// Entity types of one schema.
pub const MAX_ENTITY_TYPES: usize = 500;
/// The id of an action, `server/name` or `name`.
pub const MAX_ACTION_ID_BYTES: usize = 256;
/// Types that one input or output consists of once common types are written out.
pub const MAX_SHAPE_NODES: usize = 4_096;
/// Types that all inputs and outputs of one schema consist of, written out.
pub const MAX_SCHEMA_NODES: usize = 100_000;
/// The largest `x-countersign-scale`, in decimal digits: `i64` has 18 full ones.
pub const MAX_SCALE: u32 = 18;

/// The arguments of one request.
pub const MAX_INPUT_BYTES: usize = 256 * 1024;
/// The output of one action.
pub const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// Arrays and objects around one JSON value.
pub const MAX_JSON_DEPTH: usize = 32;
/// JSON values in one document, members and elements included.
pub const MAX_JSON_NODES: usize = 200_000;
/// The encoding of one [`crate::Value`]. An input's worst case, one-digit numbers and their commas becoming nine bytes each,
/// stays below it.
pub const MAX_VALUE_BYTES: usize = 2 * 1024 * 1024;

/// Brackets around one token of a rule or schema text.
pub const MAX_SOURCE_DEPTH: usize = 32;
/// Operators in one statement of such a text. Each may be one level of a parser's or evaluator's recursion.
pub const MAX_SOURCE_OPERATORS: usize = 1_000;

/// Entities of one bundle.
pub const MAX_ENTITIES: usize = 10_000;
/// Ancestors of all entities of one bundle together.
pub const MAX_ANCESTORS: usize = 100_000;
/// Test cases of one bundle.
pub const MAX_CASES: usize = 1_000;
/// Steps of all test cases of one bundle.
pub const MAX_STEPS: usize = 2_000;
/// What a test case says about its agent, or its session. Every step carries a copy.
pub const MAX_CASE_FACTS_BYTES: usize = 2 * 1024;

/// The `@id` of a rule.
pub const MAX_RULE_ID_BYTES: usize = 128;
/// `@obligation`, `@advice` or `@approvers` of a rule.
pub const MAX_ANNOTATION_BYTES: usize = 512;
/// The longest life of a permit, in seconds.
pub const MAX_PERMIT_TTL_S: u32 = 900;
/// Approvals that a rule may ask of one group.
pub const MAX_APPROVALS: u32 = 100;
/// Groups of which a rule may ask approvals.
pub const MAX_APPROVER_GROUPS: usize = 16;

/// Expressions inside each other in one rule, chains of `&&` and `+` included. Cedar takes about 4.5 KiB of stack for each, and
/// errs when less than 100 KiB are left: so many never err for that on 1 MiB, whatever machine it is.
pub const MAX_RULE_DEPTH: usize = 200;

/// Events retained in one partition before further requests are denied. The outcomes of those allowed before are still
/// retained: their places are counted.
pub const MAX_HISTORY_EVENTS: usize = 10_000;
/// Bytes of the events retained in one partition before further requests are denied.
pub const MAX_HISTORY_BYTES: usize = 4 * 1024 * 1024;
/// How many times the two limits above outcomes may fill before they, too, find no room: of each allowed action the agent and a
/// gateway may each report one, and one time more is spare.
pub const OUTCOME_RESERVE: usize = 4;
/// How long, in seconds, the place of an allowed action's outcome is held: as long as the longest session.
pub const OUTCOME_HORIZON_S: i64 = 24 * 3_600;
/// Cells of a partition, apart from those in its header, that one step looks at because something in them may have expired.
pub const CELLS_PER_STEP: usize = 256;

/// Determining rules that an explanation tells clause by clause. Explanations are in no entry: their limits need no new engine
/// version.
pub const MAX_EXPLAINED_RULES: usize = 16;
/// Permits that did not hold, nearest first, that an explanation tells.
pub const MAX_NEAREST_PERMITS: usize = 5;
/// Clauses of one rule in an explanation.
pub const MAX_EXPLAINED_CLAUSES: usize = 16;
/// The text of one clause in an explanation, and why it erred. With the two limits above an explanation's rules stay below
/// 21 x 16 x 1 KiB = 336 KiB.
pub const MAX_EXPLAINED_CLAUSE_BYTES: usize = 512;
/// Facts in an explanation.
pub const MAX_EXPLAINED_FACTS: usize = 64;
/// The name and the value of one fact in an explanation.
pub const MAX_EXPLAINED_VALUE_BYTES: usize = 256;
/// Temporal conditions in an explanation.
pub const MAX_EXPLAINED_HISTORY: usize = 32;
