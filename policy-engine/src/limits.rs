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
/// Actions of one schema.
pub const MAX_ACTIONS: usize = 2_000;
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
/// The encoding of one [`crate::Value`]: an input's worst case, every character of a string taking its own set element
/// of six bytes, stays below it.
pub const MAX_VALUE_BYTES: usize = 2 * 1024 * 1024;

/// Brackets around one token of a rule or schema text.
pub const MAX_SOURCE_DEPTH: usize = 32;
/// Operators in one statement of such a text. Each may be one level of a parser's or evaluator's recursion.
pub const MAX_SOURCE_OPERATORS: usize = 1_000;

/// Test cases of one bundle.
pub const MAX_CASES: usize = 1_000;
/// Steps of one test case.
pub const MAX_STEPS: usize = 1_000;

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

/// Events retained in one partition before further requests are denied. Each may yet get a verdict and an outcome, which
/// are always retained, so a partition holds at most three times as many.
pub const MAX_HISTORY_EVENTS: usize = 10_000;
/// Bytes of the events retained in one partition before further requests are denied.
pub const MAX_HISTORY_BYTES: usize = 4 * 1024 * 1024;
/// How long, in seconds, the place of an allowed action's outcome is held: as long as the longest session.
pub const OUTCOME_HORIZON_S: i64 = 24 * 3_600;
