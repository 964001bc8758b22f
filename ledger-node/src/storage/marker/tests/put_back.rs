//! An older marker that is put back in the place of its own run's.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use super::*;

/// Puts an older marker back as a tool does.
type Restore = fn(&Path, &[u8], SystemTime);

fn write_in_place(path: &Path, bytes: &[u8], modified: SystemTime) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.set_modified(modified).unwrap();
}

fn replace(path: &Path, bytes: &[u8], modified: SystemTime) {
    let beside = path.with_extension("beside");
    fs::write(&beside, bytes).unwrap();
    write_in_place(&beside, bytes, modified);
    fs::rename(&beside, path).unwrap();
}

fn replace_without_times(path: &Path, bytes: &[u8], _: SystemTime) {
    let beside = path.with_extension("beside");
    fs::write(&beside, bytes).unwrap();
    fs::rename(&beside, path).unwrap();
}

fn link(path: &Path, _: &[u8], _: SystemTime) {
    let link = path.with_extension("link");
    // A kernel may date by the tick.
    let linked = std::iter::repeat_with(|| {
        fs::hard_link(path, &link).unwrap();
        fs::remove_file(&link).unwrap();
        let file = fs::metadata(path).unwrap();
        (file.mtime(), file.mtime_nsec()) != (file.ctime(), file.ctime_nsec())
    });
    assert!(linked.take(1_000_000).any(|is_told| is_told));
}

#[test]
fn an_older_marker_that_was_put_back_is_a_copy_for_good_and_an_ordinary_end_is_none() {
    let ways: [(&str, Restore); 4] = [
        ("rsync --inplace", write_in_place),
        ("rsync", replace),
        ("rsync without times", replace_without_times),
        ("a hard link", link),
    ];
    for (name, restore) in ways {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(MARKER_FILE);
        let marker = Marker::create(dir.path(), 3, DIGEST, STORE).unwrap();
        let full = of_its_file(&marker);
        marker.update(|record| *record = full).unwrap();
        let old = fs::read(&path).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap() - Duration::from_secs(1);
        for index in 91..100 {
            let committed = Some(MarkedLogId { term: 5, index });
            marker
                .update(|record| record.committed = committed)
                .unwrap();
        }
        drop(marker);
        for _ in 0..2 {
            assert_eq!(
                Marker::open(dir.path()).unwrap().read().instance,
                full.instance
            );
            drop(Marker::lock(dir.path()).unwrap());
        }
        restore(&path, &old, modified);
        let copied = full.instance.map(InstanceFile::copied);
        for _ in 0..2 {
            let marker = Marker::open(dir.path()).unwrap();
            assert_eq!(marker.read().instance, copied, "{name}");
            let committed = Some(MarkedLogId {
                term: 6,
                index: 200,
            });
            marker
                .update(|record| record.committed = committed)
                .unwrap();
        }
    }
}
