//! The files of the repository, as the other rules see them.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file.
#[derive(Debug, Clone)]
pub(super) struct TextFile {
    /// From the root, with `/` between folders.
    pub(super) path: String,
    /// All of it.
    pub(super) text: String,
}

impl TextFile {
    /// A file that exists only in a test.
    pub(super) fn sample(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The part of the name after the last dot, or nothing.
    pub(super) fn extension(&self) -> &str {
        self.name().rsplit_once('.').map_or("", |(_, end)| end)
    }

    /// The name without its folders.
    pub(super) fn name(&self) -> &str {
        self.path
            .rsplit_once('/')
            .map_or(&self.path, |(_, name)| name)
    }
}

/// The root of the workspace.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate is a folder of the workspace")
        .to_owned()
}

/// Every text file of the checkout, sorted by path. Build output and version control are left out, and so are files that are
/// not UTF-8, which no rule here reads.
pub(super) fn text_files() -> Vec<TextFile> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).expect("a folder that was listed can be read") {
            let item = item.expect("a folder that was opened can be read");
            let path = item.path();
            let kind = item.file_type().expect("a file that was listed has a type");
            if kind.is_dir() {
                if !matches!(item.file_name().to_str(), Some(".git" | "target")) {
                    folders.push(path);
                }
            } else if kind.is_file()
                && item.file_name() != ".git"
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push(TextFile {
                    path: relative(&root, &path),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path
        .strip_prefix(root)
        .expect("the walk starts at the root");
    let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

#[test]
fn the_walk_finds_this_file_and_no_build_output() {
    let files = text_files();
    assert!(
        files
            .iter()
            .any(|file| file.path == "tests/it/tidy/tree.rs")
    );
    assert!(
        files
            .iter()
            .all(|file| !file.path.split('/').any(|part| part == "target"))
    );
}
