//! The Python client, from the published protos, against a fake node whose failovers succeed. Against a live group the
//! rig runs the same client.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so by panicking

#[path = "api_grpc/fake.rs"]
#[allow(dead_code)]
mod fake;
#[path = "api_grpc/world.rs"]
#[allow(dead_code)]
mod world;

use std::{path::Path, process::Command, time::Duration};

use quorate::core::replicated::{Change, Ending, Phase};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs QUORATE_TEST_PYTHON: an interpreter with tests/python/requirements.txt"]
async fn a_python_client_discovers_watches_triggers_and_acknowledges_a_failover() {
    let python = std::env::var("QUORATE_TEST_PYTHON").expect("QUORATE_TEST_PYTHON names an interpreter");
    let fake = fake::Fake::leading(world::Log::new());
    *fake.well.lock().unwrap() = true;
    let node = fake.serve().await;
    let driver = fake.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let running =
                driver.log().state.recoveries.values().find(|r| r.phase == Phase::Started).map(|r| r.id);
            let Some(recovery) = running else { continue };
            driver.apply(Change::DecidePromotion { recovery, decision: Box::new(world::decision()) });
            driver.apply(Change::RecordIntent { recovery });
            driver.apply(Change::Publish { recovery });
            let (ending, reason) = (Ending::Succeeded, "db2:3306 accepts writes".into());
            driver.apply(Change::FinishRecovery {
                recovery,
                ending,
                reason,
                left_behind: vec![],
                repointed: vec![],
            });
        }
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/client.py");
    let mut command = Command::new(python);
    command.arg(script).args([&node.to_string(), "db1:3306"]);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{out}\n{err}");
    let answer: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&answer["old_primary"], &answer["new_primary"]), (&"db1:3306".into(), &"db2:3306".into()));
}
