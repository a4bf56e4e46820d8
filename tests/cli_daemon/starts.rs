//! What cannot start says what is wrong, where, and what to do.

use std::{fs, net::TcpListener};

use crate::node::{Node, quorate, until};

#[test]
fn a_taken_port_is_named_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    for key in ["node", "client"] {
        let node = Node::new(1, folder.path(), "plaintext = true");
        let port = if key == "node" { node.node_port } else { node.client_port };
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let ran = quorate(&["serve", "--config", &node.config()]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(&format!("`listen.{key}`")) && ran.err.contains("in use"), "{}", ran.err);
        assert!(!node.folder.join("data").exists(), "nothing half done");
    }
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Node::new(1, folder.path(), "plaintext = true");
    one.start();
    until("it has a directory", || one.folder.join("data").read_dir().is_ok_and(|mut d| d.next().is_some()));
    let second = quorate(&["serve", "--config", &{
        let mut same = fs::read_to_string(one.config()).unwrap();
        for (from, to) in
            [(one.node_port, crate::node::free_port()), (one.client_port, crate::node::free_port())]
        {
            same = same.replace(&from.to_string(), &to.to_string());
        }
        let path = one.folder.join("same.toml");
        fs::write(&path, same).unwrap();
        path.to_str().unwrap().to_owned()
    }]);
    assert_eq!(second.code, 1, "a directory in use is not opened twice");
    assert!(second.err.contains("data"), "{}", second.err);
    one.kill();
    let text = fs::read_to_string(one.config()).unwrap().replace("node_id = 1", "node_id = 2");
    fs::write(one.config(), text).unwrap();
    let ran = quorate(&["serve", "--config", &one.config()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("node 1") && ran.err.contains("data"), "{}", ran.err);
}

#[test]
fn a_node_told_to_stop_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(1, folder.path(), "plaintext = true");
    node.start();
    node.terminate();
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[test]
fn checking_a_file_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::new(1, folder.path(), "plaintext = true");
    let ran = quorate(&["serve", "--config", &node.config(), "--check"]);
    assert_eq!((ran.code, ran.out.contains("is fine")), (0, true), "{}", ran.err);
    assert!(!node.folder.join("data").exists());
}
