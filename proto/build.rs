//! Generates the Rust code from the `.proto` files, in pure Rust: no `protoc` is needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["proto/countersign/v1", "proto/countersign/peer/v1"] {
        println!("cargo::rerun-if-changed={folder}");
        for file in std::fs::read_dir(folder)? {
            files.push(file?.path());
        }
    }
    files.sort();

    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost_bytes(&descriptors))?;
    tonic_prost_build::configure()
        .build_client(cfg_has("GRPC"))
        .build_server(cfg_has("GRPC"))
        // Log entries and snapshot parts are large and pass through untouched.
        .bytes(".countersign.peer.v1.LogEntry.batch")
        .bytes(".countersign.peer.v1.SendSnapshotRequest.bytes")
        .compile_fds(descriptors)?;
    Ok(())
}

fn cfg_has(feature: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some()
}

fn prost_bytes(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
