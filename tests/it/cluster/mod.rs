//! Clusters of real processes under load and under faults, in short forms; `make soak` has the long ones.

mod attestation;
mod bad_input;
mod client;
mod commands;
mod demo;
mod disk_faults;
mod documents;
mod erasure;
mod explain;
mod full_disk;
mod gate;
mod in_process;
mod kills;
mod liars;
mod limits;
mod marker;
mod membership;
mod minority;
mod partitions;
mod replay;
mod shapes;
mod streams;
mod syncs;
mod terminal;
mod transfer;
mod unusable;
