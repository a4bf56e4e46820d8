//! What the commands print, for people and for machines, and how they exit: the real binary against a fake node.
//! Regenerate the expected texts with `UPDATE_GOLDENS=1 cargo test --test cli_output`, and read the difference.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

mod failures;
#[path = "../api_grpc/fake.rs"]
#[allow(dead_code)]
mod fake;
mod prints;
mod tls;
#[path = "../api_grpc/tls.rs"]
#[allow(dead_code)]
mod tls_files;
#[path = "../api_grpc/world.rs"]
#[allow(dead_code)]
mod world;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

/// How a command ended.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs `quorate WORDS` against these nodes.
async fn run_at(endpoints: &[String], words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for name in ["QUORATE_TLS_CA", "QUORATE_TLS_CERT", "QUORATE_TLS_KEY", "QUORATE_TLS_NAME", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("QUORATE_ENDPOINTS", endpoints.join(",")).env("QUORATE_BY", "anna").args(words);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran { code: run.status.code().unwrap_or(-1), out: text(&run.stdout), err: text(&run.stderr) }
}

async fn run(node: SocketAddr, words: &[&str]) -> Ran {
    run_at(&[node.to_string()], words).await
}

/// The output is what stands in `golden/NAME`.
fn check(name: &str, actual: &str) {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli_output/golden").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        fs::write(&path, actual).unwrap();
        return;
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, wanted, "{name} differs; see the head of main.rs");
}

/// The same verb for people and for machines.
async fn check_both(node: SocketAddr, name: &str, words: &[&str]) {
    let ran = run(node, words).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}: {}", ran.out);
    check(&format!("{name}.txt"), &ran.out);
    let mut words = words.to_vec();
    words.push("--json");
    let ran = run(node, &words).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words:?}: {}", ran.out);
    check(&format!("{name}.json"), &ran.out);
}
