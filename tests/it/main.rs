//! The one integration binary: what holds between the crates, what holds for the repository as a whole, and other people's
//! test vectors.

#[cfg(test)]
mod cedar_corpus;
#[cfg(test)]
mod deps_script;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod proto;
#[cfg(test)]
mod tidy;
