//! The one integration binary: what holds between the crates, and what holds for the repository as a whole.

#[cfg(test)]
mod deps_script;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod proto;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod vectors;
