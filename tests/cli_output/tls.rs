//! TLS from the command line: what is wrong with a certificate is said in words.

use crate::{
    fake::Fake,
    run_at,
    tls_files::{Authority, authority, files, leaf},
    world::Log,
};
use std::{fs, path::Path};

fn write(folder: &Path, ca: &Authority, identity: Option<(String, String)>) -> Vec<String> {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(path("cli-ca.pem"), ca.pem()).unwrap();
    let mut words = vec!["--tls-ca".to_owned(), path("cli-ca.pem"), "--tls-name".into(), "localhost".into()];
    if let Some((cert, key)) = identity {
        fs::write(path("cli.pem"), cert).unwrap();
        fs::write(path("cli.key"), key).unwrap();
        words.extend(["--tls-cert".to_owned(), path("cli.pem"), "--tls-key".into(), path("cli.key")]);
    }
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let server = leaf(&ours, false);
    let node = Fake::leading(Log::with_orders()).serve_with(Some(files(folder.path(), &ours, &server))).await;
    let good = || Some(leaf(&ours, false));
    for (trusts, identity, code, says) in [
        (&ours, good(), 0, ""),
        (&theirs, good(), 3, "its certificate comes from another authority than --tls-ca"),
        (&ours, None, 3, "certificate"),
        // Whether the node's alert comes through before its end of the connection is a race.
        (&ours, Some(leaf(&theirs, false)), 3, "your certificate"),
        (&ours, Some(leaf(&ours, true)), 3, "your certificate"),
    ] {
        let words = write(folder.path(), trusts, identity);
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.push("clusters");
        let ran = run_at(&[node.to_string()], &words).await;
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(ran.err.contains(says), "{}\nlacks\n{says}", ran.err);
    }
    let plain = run_at(&[node.to_string()], &["clusters"]).await;
    assert_eq!(plain.code, 3, "{}", plain.err);
}
