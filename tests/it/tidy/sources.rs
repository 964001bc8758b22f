//! Rules about single files: how modules open, how long they get, what they are called, and what they must not hold.

use super::tree::{TextFile, text_files};
use super::{assert_finds, assert_none};

/// Lines of code, tests not counted, that no file may pass.
const LINES_HARD_MAX: usize = 800;

/// Lines of code, tests not counted, that a file passes only with a reason in [`LONG_FILES`].
const LINES_SOFT_MAX: usize = 400;

/// Files past [`LINES_SOFT_MAX`], each with the reason why cutting it would make it harder to read.
const LONG_FILES: &[(&str, &str)] = &[
    (
        "ledger-node/src/apply/applier.rs",
        "one thread's work, from a committed entry to the answers",
    ),
    (
        "ledger-node/src/front/identity.rs",
        "one service: a getter and a list for each kind of identity",
    ),
    (
        "ledger-node/src/fsck/records.rs",
        "one check for each family of records",
    ),
    (
        "ledger-node/src/genesis_file.rs",
        "one file format, written and read",
    ),
    (
        "ledger-node/src/node/start.rs",
        "the order of a start, from the disk to the open ports, read from top to bottom",
    ),
    ("tests/src/kit/world.rs", "one world that all tests share"),
];

/// Words that name a drawer rather than a thing.
const BANNED_NAMES: &[&str] = &[
    "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils",
];

/// Files that may hold up a thread, each with the reason.
const SLEEPERS: &[(&str, &str)] = &[(
    "ledger-node/src/storage/rocks/scrub.rs",
    "RocksDB tells nobody when a reader ends or a file is gone: it is looked at until then, at most so long",
)];

/// Every module says why it exists before it says anything else.
fn module_docs(file: &TextFile) -> Vec<String> {
    let opens = file
        .text
        .lines()
        .find(|line| !line.trim().is_empty())
        .is_some_and(|line| line.starts_with("//!"));
    if file.extension() != "rs" || opens {
        return Vec::new();
    }
    vec![format!(
        "{}: does not open with `//!`; say in one sentence why this module exists",
        file.path
    )]
}

/// A file that does not fit into a head is cut in two.
fn length(file: &TextFile, exceptions: &[(&str, &str)]) -> Vec<String> {
    if file.extension() != "rs" {
        return Vec::new();
    }
    let lines = code_lines(file);
    let listed = exceptions.iter().any(|(path, _)| *path == file.path);
    if lines > LINES_HARD_MAX {
        vec![format!(
            "{}: {lines} lines without its tests, {LINES_HARD_MAX} are the most; split it by subject",
            file.path
        )]
    } else if lines > LINES_SOFT_MAX && !listed {
        vec![format!(
            "{}: {lines} lines without its tests; split it by subject, or list it with a reason in LONG_FILES",
            file.path
        )]
    } else if lines <= LINES_SOFT_MAX && listed {
        vec![format!(
            "{}: is listed in LONG_FILES and is not long; take it off the list",
            file.path
        )]
    } else {
        Vec::new()
    }
}

/// Lines outside tests. Files that hold nothing but tests have none.
fn code_lines(file: &TextFile) -> usize {
    if is_test_file(file) {
        return 0;
    }
    let mut count = 0;
    let mut lines = file.text.lines().peekable();
    while let Some(line) = lines.next() {
        // rustfmt puts the brace that ends a module of the outermost level alone into the first column.
        if line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
        {
            lines.by_ref().find(|inner| *inner == "}");
        } else {
            count += 1;
        }
    }
    count
}

fn is_test_file(file: &TextFile) -> bool {
    let stem = file.name().trim_end_matches(".rs");
    file.path.starts_with("tests/it/")
        || file.path.split('/').any(|part| part == "tests") && !file.path.starts_with("tests/")
        || stem == "tests"
        || stem.ends_with("_tests")
        || stem.starts_with("test_")
}

/// A name says what is inside, so that a newcomer can guess the file from the feature.
fn names(file: &TextFile) -> Vec<String> {
    file.path
        .split(['/', '.', '_', '-'])
        .filter(|word| BANNED_NAMES.contains(word))
        .map(|word| {
            format!(
                "{}: `{word}` names a drawer; name the thing that is inside",
                file.path
            )
        })
        .collect()
}

/// A test that does not run is worse than none: it is counted on.
fn ignored_tests(file: &TextFile) -> Vec<String> {
    let mark = concat!("#[ign", "ore");
    lines_with(file, &["rs"], |line| line.trim_start().starts_with(mark))
        .map(|at| format!("{at}: an ignored test; mend it, or delete it and say why"))
        .collect()
}

/// What is missing is in the issue list, where somebody looks.
fn unfinished(file: &TextFile) -> Vec<String> {
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    lines_with(file, &["rs", "proto", "md", "toml", "sh", ""], |line| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|word| marks.contains(&word))
    })
    .map(|at| format!("{at}: an unfinished thing; finish it, or write an issue"))
    .collect()
}

/// Waiting is always for a condition, at most so long; a sleep is a race that has not been lost yet.
fn sleeps(file: &TextFile, exceptions: &[(&str, &str)]) -> Vec<String> {
    if exceptions.iter().any(|(path, _)| *path == file.path) {
        return Vec::new();
    }
    let call = concat!("thread::", "sleep(");
    let import = concat!("use std::thread::", "sleep");
    lines_with(file, &["rs"], |line| {
        line.contains(call) || line.contains(import)
    })
    .map(|at| format!("{at}: holds up a thread; wait for the condition that you mean"))
    .collect()
}

/// The place that packages came from on somebody's machine is nobody else's business, and breaks their build.
fn registry_hosts(file: &TextFile) -> Vec<String> {
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("pythonhosted", ".org"),
        concat!("proxy.golang", ".org"),
        concat!("[source", "."),
        concat!("[registries", "."),
        concat!("replace", "-with"),
    ];
    // The lock file names cargo's default index and must name no other.
    let default_index = concat!(
        "source = \"registry+https://github.com/rust-lang/crates",
        ".io-index\""
    );
    let locks = file.name() == "Cargo.lock";
    let extensions = [
        "rs", "proto", "md", "toml", "sh", "lock", "yml", "yaml", "json", "",
    ];
    lines_with(file, &extensions, |line| {
        if locks {
            line.starts_with("source = ") && line != default_index
        } else {
            hosts.iter().any(|host| line.contains(host))
        }
    })
    .map(|at| format!("{at}: names a package registry; leave that to each machine's settings"))
    .collect()
}

/// `path:line` of each line that has what is looked for, in files with one of these extensions.
fn lines_with<'a>(
    file: &'a TextFile,
    extensions: &[&str],
    has: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = String> + 'a {
    let text = if extensions.contains(&file.extension()) {
        file.text.as_str()
    } else {
        ""
    };
    text.lines()
        .enumerate()
        .filter(move |(_, line)| has(line))
        .map(|(number, _)| format!("{}:{}", file.path, number + 1))
}

#[test]
fn every_module_says_why_it_exists() {
    let found: Vec<_> = text_files().iter().flat_map(module_docs).collect();
    assert_none(&found);
}

#[test]
fn files_are_short() {
    let files = text_files();
    let mut found: Vec<_> = files
        .iter()
        .flat_map(|file| length(file, LONG_FILES))
        .collect();
    for (path, _) in LONG_FILES.iter().chain(SLEEPERS) {
        if !files.iter().any(|file| file.path == *path) {
            found.push(format!(
                "{path}: is listed as an exception and does not exist"
            ));
        }
    }
    assert_none(&found);
}

#[test]
fn names_name_things() {
    let found: Vec<_> = text_files().iter().flat_map(names).collect();
    assert_none(&found);
}

#[test]
fn every_test_runs() {
    let found: Vec<_> = text_files().iter().flat_map(ignored_tests).collect();
    assert_none(&found);
}

#[test]
fn nothing_is_left_unfinished_in_passing() {
    let found: Vec<_> = text_files().iter().flat_map(unfinished).collect();
    assert_none(&found);
}

#[test]
fn nothing_sleeps() {
    let found: Vec<_> = text_files()
        .iter()
        .flat_map(|file| sleeps(file, SLEEPERS))
        .collect();
    assert_none(&found);
}

#[test]
fn no_file_names_a_registry() {
    let found: Vec<_> = text_files().iter().flat_map(registry_hosts).collect();
    assert_none(&found);
}

#[test]
fn a_module_without_a_reason_is_found() {
    let found = module_docs(&TextFile::sample("a/b.rs", "\nuse std::fs;\n//! late\n"));
    assert_finds(&found, "a/b.rs: does not open");
    assert_finds(&module_docs(&TextFile::sample("empty.rs", "")), "empty.rs");
    assert_none(&module_docs(&TextFile::sample("a/b.rs", "//! Why.\n")));
    assert_none(&module_docs(&TextFile::sample("a/b.md", "text\n")));
}

#[test]
fn a_long_file_is_found() {
    let long = |lines| TextFile::sample("a/b.rs", &"x\n".repeat(lines));
    let listed: &[(&str, &str)] = &[("a/b.rs", "a table")];
    assert_none(&length(&long(LINES_SOFT_MAX), &[]));
    assert_finds(&length(&long(LINES_SOFT_MAX + 1), &[]), "LONG_FILES");
    assert_none(&length(&long(LINES_HARD_MAX), listed));
    assert_finds(&length(&long(LINES_HARD_MAX + 1), listed), "are the most");
    assert_finds(&length(&long(LINES_SOFT_MAX), listed), "is not long");
}

#[test]
fn tests_do_not_count_as_length() {
    let inner = "x\n".repeat(LINES_HARD_MAX);
    let text = format!("code\n#[cfg(test)]\nmod tests {{\n{inner}}}\nmore\n");
    let file = TextFile::sample("a/b.rs", &text);
    assert_eq!(code_lines(&file), 2);
    assert_eq!(code_lines(&TextFile::sample("a/tests.rs", &inner)), 0);
    assert_eq!(code_lines(&TextFile::sample("a/tree_tests.rs", &inner)), 0);
    assert_eq!(code_lines(&TextFile::sample("tests/it/a.rs", &inner)), 0);
    assert_eq!(
        code_lines(&TextFile::sample("tests/src/cluster.rs", &inner)),
        LINES_HARD_MAX
    );
}

#[test]
fn a_drawer_is_found() {
    assert_finds(&names(&TextFile::sample("a/utils.rs", "")), "`utils`");
    assert_finds(
        &names(&TextFile::sample("a/key_manager.rs", "")),
        "`manager`",
    );
    assert_finds(&names(&TextFile::sample("common/b.rs", "")), "`common`");
    assert_none(&names(&TextFile::sample("a/commonwealth.rs", "")));
}

#[test]
fn an_ignored_test_is_found() {
    let text = format!("#[test]\n    {}]\nfn a() {{}}\n", concat!("#[ign", "ore"));
    assert_finds(&ignored_tests(&TextFile::sample("a.rs", &text)), "a.rs:2");
    let reasoned = format!("{} = \"slow\"]\n", concat!("#[ign", "ore"));
    assert_finds(
        &ignored_tests(&TextFile::sample("a.rs", &reasoned)),
        "a.rs:1",
    );
}

#[test]
fn an_unfinished_thing_is_found() {
    let text = format!("fine\n// {}: later\n", concat!("TO", "DO"));
    assert_finds(&unfinished(&TextFile::sample("a.rs", &text)), "a.rs:2");
    assert_finds(
        &unfinished(&TextFile::sample("Makefile", &text)),
        "Makefile:2",
    );
    let words = TextFile::sample("a.rs", "MASTODON TODOS todo\n");
    assert_none(&unfinished(&words));
}

#[test]
fn a_sleep_is_found() {
    let text = format!("std::{}second);\n", concat!("thread::", "sleep("));
    let file = TextFile::sample("a.rs", &text);
    assert_finds(&sleeps(&file, &[]), "a.rs:1");
    let import = format!("use std::{};\n", concat!("thread::", "sleep"));
    assert_finds(&sleeps(&TextFile::sample("a.rs", &import), &[]), "a.rs:1");
    assert_none(&sleeps(&file, &[("a.rs", "the one place that waits")]));
}

#[test]
fn a_registry_is_found() {
    let text = format!("see https://{}/x\n", concat!("pypi", ".org"));
    assert_finds(&registry_hosts(&TextFile::sample("a.md", &text)), "a.md:1");
    let mirror = TextFile::sample("Cargo.lock", "source = \"registry+https://mirror/index\"\n");
    assert_finds(&registry_hosts(&mirror), "Cargo.lock:1");
    let default = format!(
        "source = \"registry+https://github.com/rust-lang/crates{}\"\n",
        ".io-index"
    );
    assert_none(&registry_hosts(&TextFile::sample("Cargo.lock", &default)));
}
