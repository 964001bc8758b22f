//! What tools and the system see of a node: which services it offers, its log lines, and what it asks of the system.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use countersign_tests::cluster::process::program;
use countersign_tests::cluster::wait::until;
use countersign_tests::cluster::{Cluster, Options, SOON};
use serde_json::Value;
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

async fn one_node(settings: &str) -> Cluster {
    Cluster::start(Options {
        nodes: 1,
        settings: settings.to_owned(),
        ..Options::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_what_clients_may_call_and_nothing_else_and_describes_it() {
    let cluster = one_node("").await;
    let endpoint = Endpoint::from_shared(cluster.endpoint(1)).expect("an endpoint");
    let mut client = ServerReflectionClient::new(endpoint.connect().await.expect("connects"));
    let mut ask = async |request| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(request),
        };
        let answers = client.server_reflection_info(tokio_stream::once(request));
        let mut answers = answers.await.expect("is answered").into_inner();
        let answer = answers.message().await.expect("is answered");
        answer.and_then(|answer| answer.message_response)
    };
    let listed = ask(MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else {
        panic!("{listed:?}");
    };
    let listed: BTreeSet<String> = listed.service.into_iter().map(|one| one.name).collect();
    let ours = [
        "Authorization",
        "Cluster",
        "Identity",
        "Ledger",
        "Policy",
        "Session",
    ];
    let ours = ours.map(|name| format!("countersign.v1.{name}Service"));
    let tools = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    let expected: BTreeSet<String> = ours.into_iter().chain(tools.map(str::to_owned)).collect();
    assert_eq!(listed, expected);
    for service in listed {
        let described = ask(MessageRequest::FileContainingSymbol(service.clone())).await;
        let Some(MessageResponse::FileDescriptorResponse(_)) = described else {
            panic!("{service}: {described:?}");
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_json_is_one_object_a_line() {
    let mut cluster = one_node("[log]\nformat = \"json\"\n").await;
    cluster.stop(1).await;
    let log = std::fs::read_to_string(cluster.file(1).log()).expect("a log");
    let mut messages = Vec::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for field in ["timestamp", "level", "target", "message"] {
            assert!(line[field].is_string(), "no {field}: {line}");
        }
        messages.push(line["message"].as_str().expect("a text").to_owned());
    }
    assert!(messages.len() >= 2, "{messages:?}");
}

/// How many files a process may have open: by now, and at most.
fn open_files(process: u32) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).expect("it runs");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.expect("a limit").split_whitespace();
    let mut word = || words.next().expect("a number").to_owned();
    (word(), word())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_asks_for_as_many_open_files_as_the_system_grants() {
    let mut cluster = one_node("").await;
    cluster.stop(1).await;
    let mut node = Command::new("sh")
        .args(["-c", "ulimit -Sn 256 && exec \"$@\"", "sh"])
        .arg(program())
        .args(["start", "--config"])
        .arg(cluster.file(1).config())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell runs");
    let (before, most) = open_files(std::process::id());
    assert_ne!(most, "256", "from {before}");
    until("it may open more files", SOON, async || {
        (open_files(node.id()) == (most.clone(), most.clone())).then_some(())
    })
    .await;
    node.kill().expect("our child");
    node.wait().expect("our child");
}
