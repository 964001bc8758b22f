//! C2SP signed notes: checkpoints, cosignatures, trust policies and proof files.
