//! A volume that can be copied and put back: a folder, or the image of a file system on a loop device.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use ledger_node::storage::instance::InstanceFile;
use ledger_node::storage::marker::{MARKER_FILE, Marker};

use super::case::Method;
use crate::cluster::overlay::OverlayTool;

/// The size of an image; holes take no room.
const IMAGE: &str = "1G";

/// A volume of a node.
#[derive(Debug)]
pub(super) struct Volume {
    /// Where the node sees it.
    pub(super) path: PathBuf,
    /// Where copies of it are kept.
    beside: PathBuf,
    /// The loop device of an image.
    device: Option<String>,
    is_mounted: bool,
}

/// Runs a program of the system.
fn must<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let mut command = Command::new(program);
    let output = command.args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// True if this process can make, attach and mount an image.
#[must_use]
pub fn can_mount() -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let image = folder.path().join("image");
    let point = folder.path().join("point");
    std::fs::create_dir(&point).expect("a folder");
    let script = "truncate -s 16M \"$0\" && mkfs.ext4 -q -F \"$0\" && mount -o loop \"$0\" \"$1\" && umount \"$1\"";
    let done = Command::new("sh")
        .args([OsStr::new("-c"), OsStr::new(script)])
        .args([&image, &point])
        .output();
    done.is_ok_and(|done| done.status.success())
}

impl Volume {
    /// Makes an empty volume in a node's folder.
    pub(super) fn make(folder: &Path, is_image: bool) -> Self {
        let mut volume = Self {
            path: folder.join("volume"),
            beside: folder.join("beside"),
            device: None,
            is_mounted: false,
        };
        std::fs::create_dir_all(&volume.path).expect("a folder");
        std::fs::create_dir_all(&volume.beside).expect("a folder");
        if is_image {
            let image = volume.image();
            must(
                "truncate",
                &[OsStr::new("-s"), IMAGE.as_ref(), image.as_ref()],
            );
            must(
                "mkfs.ext4",
                &[OsStr::new("-q"), "-F".as_ref(), image.as_ref()],
            );
            let device = must(
                "losetup",
                &[OsStr::new("--find"), "--show".as_ref(), image.as_ref()],
            );
            volume.mount(&device);
            volume.device = Some(device);
        }
        volume
    }

    fn image(&self) -> PathBuf {
        self.beside.join("image")
    }

    fn old(&self) -> PathBuf {
        self.beside.join("old")
    }

    fn truth(&self) -> PathBuf {
        self.beside.join("truth")
    }

    fn mount(&mut self, device: &str) {
        must("mount", &[OsStr::new(device), self.path.as_ref()]);
        self.is_mounted = true;
        // The device lets go of its image when it is unmounted.
        must("losetup", &["--detach", device]);
    }

    fn unmount(&mut self) {
        must("umount", &[&self.path]);
        self.is_mounted = false;
    }

    /// Attaches the image to a device, or to any other one than that.
    fn attach(&mut self, is_same: bool) {
        let home = self.device.clone().expect("an image");
        let image = self.image();
        let takes = |device: &str| {
            let done = Command::new("losetup").arg(device).arg(&image).output();
            done.is_ok_and(|done| done.status.success())
        };
        if is_same {
            assert!(takes(&home), "{home} is taken");
            return self.mount(&home);
        }
        let other = (0..64)
            .map(|number| format!("/dev/loop{number}"))
            .find(|device| *device != home && Path::new(device).exists() && takes(device));
        self.mount(&other.expect("a second loop device"));
    }

    /// Makes the copy that is put back later. An image is cloned while its node may run; whoever copies a folder has stopped it, or has it
    /// stand still.
    pub(super) fn copy(&self) {
        if self.device.is_some() {
            must("fsfreeze", &[OsStr::new("--freeze"), self.path.as_ref()]);
            copy_image(&self.image(), &self.old());
            must("fsfreeze", &[OsStr::new("--unfreeze"), self.path.as_ref()]);
            return;
        }
        copy_all(&self.path, &self.old());
    }

    /// Takes the disk as it is now out of the node, whole.
    pub(super) fn set_aside(&mut self, method: Method) {
        if self.device.is_some() {
            self.unmount();
            std::fs::rename(self.image(), self.truth()).expect("moves");
        } else if method.is_laid_over() {
            copy_all(&self.path, &self.truth());
        } else {
            std::fs::rename(&self.path, self.truth()).expect("moves");
        }
    }

    /// Puts what the method says in its place.
    pub(super) fn restore(&mut self, method: Method) {
        match method {
            Method::Copy => copy_all(&self.old(), &self.path),
            Method::CopyOver => OverlayTool::CopyArchive.lay(&self.old(), &self.path),
            Method::OverRun(tool) => tool.lay(&self.old(), &self.path),
            Method::Init | Method::InitFirst => {
                std::fs::create_dir(&self.path).expect("a folder");
            }
            Method::ForgedInPlace => {
                copy_all(&self.old(), &self.path);
                let data = self.path.join("data");
                let folders = [data.clone(), self.path.join("marker")];
                let mut folders = folders.iter();
                // A marker on another volume stays as it is.
                if let Some(folder) = folders.find(|folder| folder.join(MARKER_FILE).is_file()) {
                    forge(folder, &data);
                }
            }
            Method::ImageInPlace | Method::ImageElsewhere => {
                copy_image(&self.old(), &self.image());
                self.attach(method == Method::ImageInPlace);
            }
        }
    }

    /// Puts the disk in its place that was set aside.
    pub(super) fn put_back(&mut self) {
        if self.device.is_some() {
            self.unmount();
            std::fs::rename(self.truth(), self.image()).expect("moves");
            self.attach(true);
        } else {
            std::fs::remove_dir_all(&self.path).expect("removed");
            std::fs::rename(self.truth(), &self.path).expect("moves");
        }
    }
}

impl Volume {
    /// Unmounts it, once no node runs on it any more.
    pub(super) fn close(&mut self) {
        if self.is_mounted {
            self.unmount();
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.is_mounted {
            // A run that panicked: nothing else can be done here.
            let _ = Command::new("umount").arg(&self.path).output();
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    must("cp", &[OsStr::new("-a"), from.as_ref(), to.as_ref()]);
}

fn copy_image(from: &Path, to: &Path) {
    let arguments = [OsStr::new("--sparse=always"), from.as_ref(), to.as_ref()];
    must("cp", &arguments);
}

/// Makes a copy's marker agree with it, so that nothing tells that it is one.
///
/// # Panics
/// If there is no marker that can be opened.
pub fn forge(marker_dir: &Path, data_dir: &Path) {
    let marker = Marker::open(marker_dir).expect("a marker");
    let identity = marker.file_identity().expect("a file");
    let instance = InstanceFile::create(data_dir, [0x7f; 16], identity).expect("a file");
    let forged = marker.update(|record| record.instance = Some(instance));
    forged.expect("a marker");
}
