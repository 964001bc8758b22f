//! Clusters of real processes under load and under faults, in short forms; `make soak` has the long ones.

mod bad_input;
mod client;
mod demo;
mod documents;
mod kills;
mod marker;
mod membership;
mod partitions;
