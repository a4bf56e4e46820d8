//! The borders between the parts (docs/ARCHITECTURE.md): who may import whom, which crates are used where, what the
//! pure core never touches. Reads the sources as text; a new edge is a change to the tables below, seen in review.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each part with the parts it may import. Siblings do not know each other; nothing points back.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli", "config", "mistake", "server"]),
    ("cli", &["model", "proto"]),
    (
        "server",
        &[
            "api", "config", "core", "executor", "mistake", "model", "probe", "proto", "publish", "raft",
            "session",
        ],
    ),
    ("api", &["core", "mistake", "model", "proto"]),
    ("raft", &["core", "mistake", "proto"]),
    ("probe", &["core", "model", "session"]),
    ("executor", &["core", "mistake", "model", "session"]),
    ("publish", &["core", "model"]),
    // Leaves: a connection to a server, which probe and executor share; what a node's file says.
    ("session", &["model"]),
    ("config", &["model"]),
    ("core", &["mistake", "model"]),
    // Wherever a promise is kept, a mistake may be planted to see that its breach is noticed. Without its feature this is
    // a constant; with it the core looks at the environment, through this one function.
    ("mistake", &["model"]),
    ("model", &[]),
];

/// Narrower than a whole part: `raft` carries the replicated state and knows nothing else of the core.
const ONLY: &[(&str, &str, &str)] = &[("raft", "core", "core::replicated")];

/// Crates with the only parts that may use them.
const CRATES: &[(&str, &[&str])] = &[
    ("sled", &["raft"]),
    ("openraft", &["raft"]),
    ("mysql_async", &["probe", "executor", "session"]),
    ("clap", &["cli", "main"]),
    ("toml", &["config", "cli"]),
];

/// What decisions never touch: I/O, clocks, randomness, asynchrony.
const NEVER_IN_CORE: &[&str] = &[
    "tokio",
    "tonic",
    "sled",
    "mysql_async",
    "openraft",
    "async fn",
    "async move",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "rand::",
    "Uuid::",
    "println!",
    "tracing::",
];

/// The actors of `server`: a simulation runs these very files over ports of its own.
const ACTORS: &[&str] =
    &["actors", "discovery", "driver", "fencer", "group", "leader", "observer", "peer", "reporter", "tools"];

/// The one file below them that is the daemon's alone: it speaks gRPC.
const DAEMON_ONLY: &[&str] = &["server/peer/service"];

/// What actors have through `server::ports` only, so that equal ports make equal runs: the makers of Raft, of sessions
/// and of connections; clocks and waits by them; tasks that nobody can stop; randomness, and orders that are random.
const NEVER_IN_ACTORS: &[&str] = &[
    "Raft",
    "PeerClient",
    "proto",
    "tonic",
    "Executor",
    "probe::spawn",
    "read_once",
    "Session",
    "Account",
    "ports::host",
    "ports::log",
    "ports::peers",
    "ports::servers",
    "SystemTime",
    "clock_gettime",
    "tokio::spawn",
    "time::sleep",
    "time::timeout",
    "timeout(",
    "spawn(async",
    "std::thread",
    "Uuid",
    "rand",
    "HashMap",
    "HashSet",
    "futures::select",
];

/// Files longer than this hold a second subject.
const MOST_LINES: usize = 600;

struct Source {
    path: PathBuf,
    part: String,
    /// Without comments.
    code: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | ".git") {
                all.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let sources: Vec<Source> = files(&src, ".rs")
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&src).expect("found there").to_string_lossy().replace(".rs", "");
            let part = inside.split('/').next().unwrap_or_default().to_owned();
            let text = fs::read_to_string(&path).expect("a source file");
            Source { code: without_comments(&text), part, path, text }
        })
        .collect();
    assert!(sources.len() > 40, "the sources were not found");
    sources
}

fn without_comments(text: &str) -> String {
    text.lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every path that begins at the crate, as `part::next`, from `use` trees and from paths in the code.
fn crate_paths(code: &str, crate_name: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (at, _) in code.match_indices(&format!("{crate_name}::")) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + crate_name.len() + 2..];
        for path in expand(rest, 2) {
            paths.insert(path);
        }
    }
    paths
}

/// The paths that a use tree spells, as deep as asked: `a::{b, c::d}` is `a::b` and `a::c`.
fn expand(tree: &str, depth: usize) -> Vec<String> {
    let tree = tree.trim_start();
    if let Some(group) = tree.strip_prefix('{') {
        return items(group).iter().flat_map(|item| expand(item, depth)).collect();
    }
    let name: String = tree.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    match tree[name.len()..].strip_prefix("::") {
        Some(rest) if depth > 1 => {
            let below = expand(rest, depth - 1);
            match below.is_empty() {
                true => vec![name],
                false => below.into_iter().map(|b| format!("{name}::{b}")).collect(),
            }
        }
        _ if name.is_empty() => vec![],
        _ => vec![name],
    }
}

/// The items of a group, up to its closing brace.
fn items(group: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        items.last_mut().expect("one at least").push(c);
    }
    items
}

#[test]
fn use_trees_are_read() {
    let code = "use crate::{a::{b, c::d}, e};\nlet x = crate::f::G::new(); pub(crate) use other_crate::z;";
    let paths: Vec<String> = crate_paths(code, "crate").into_iter().collect();
    assert_eq!(paths, ["a::b", "a::c", "e", "f::G"]);
}

#[test]
fn arrows_point_one_way() {
    let (mut broken, mut seen) = (Vec::new(), BTreeSet::new());
    for source in sources().iter().filter(|s| s.part != "lib") {
        let Some((_, allowed)) = ARROWS.iter().find(|(part, _)| *part == source.part) else {
            broken.push(format!("{}: `{}` is no known part", source.path.display(), source.part));
            continue;
        };
        let name = if source.part == "main" { "quorate" } else { "crate" };
        for path in crate_paths(&source.code, name) {
            let to = path.split("::").next().unwrap_or_default();
            if to == "self"
                || to == source.part
                || !ARROWS.iter().any(|(part, _)| *part == to) && to != "proto"
            {
                continue;
            }
            let narrowed = ONLY.iter().find(|(from, wide, _)| *from == source.part && *wide == to);
            let inside = narrowed.is_none_or(|(_, _, only)| path.starts_with(only));
            seen.insert((source.part.clone(), to.to_owned()));
            if !allowed.contains(&to) || !inside {
                broken.push(format!("{} imports {path}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "arrows against the design:\n{}", broken.join("\n"));
    // The reading itself works: arrows that must be there are seen.
    for (from, to) in
        [("server", "raft"), ("server", "core"), ("raft", "core"), ("core", "model"), ("main", "server")]
    {
        assert!(seen.contains(&(from.to_owned(), to.to_owned())), "{from} -> {to} was not seen");
    }
}

#[test]
fn crates_stay_in_their_parts() {
    let mut broken = Vec::new();
    for source in sources() {
        for (name, parts) in CRATES {
            if uses(&source.code, name) && !parts.contains(&source.part.as_str()) {
                broken.push(format!("{} uses {name}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Whether the code has a path or `use` that begins with the crate.
fn uses(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let whole =
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"' || c == '.');
        let after = &code[at + name.len()..];
        whole && (after.starts_with("::") || (after.starts_with(';') && code[..at].ends_with("use ")))
    })
}

#[test]
fn the_core_is_pure() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|s| s.part == "core" || s.part == "model") {
        for word in NEVER_IN_CORE.iter().filter(|word| source.code.contains(*word)) {
            broken.push(format!("{} has `{word}`", source.path.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn actors_know_the_world_by_its_ports() {
    let (mut broken, mut actors, mut elsewhere) = (Vec::new(), 0, BTreeSet::new());
    for source in sources() {
        let path = source.path.strip_prefix(root().join("src")).expect("a source").with_extension("");
        let mut parts = path.iter().map(|part| part.to_string_lossy());
        let of_server = parts.next().is_some_and(|first| first == "server");
        let actor = of_server && parts.next().is_some_and(|name| ACTORS.contains(&name.as_ref()));
        let mut found: Vec<&str> =
            NEVER_IN_ACTORS.iter().copied().filter(|word| names(&source.code, word)).collect();
        // `tokio::time::Instant` is the one that may be virtual.
        found.extend(crate_paths(&source.code, "std").contains("time::Instant").then_some("std Instant"));
        if !actor || DAEMON_ONLY.iter().any(|file| path == Path::new(file)) {
            elsewhere.extend(found);
            continue;
        }
        actors += 1;
        broken.extend(found.into_iter().map(|word| format!("{} has `{word}`", source.path.display())));
        // Without `biased`, `select!` looks at its branches in a random order.
        if source.code.matches("select!").count() != source.code.matches("biased;").count() {
            broken.push(format!("{} has a `select!` in no fixed order", source.path.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // The reading itself works: the actors are there, and what they must not name is named by others.
    assert!(actors >= ACTORS.len(), "{actors} files of actors");
    for word in ["Raft", "PeerClient", "Executor", "Session", "tokio::spawn", "std Instant", "Uuid"] {
        assert!(elsewhere.contains(word), "`{word}` was not seen anywhere");
    }
}

/// Whether the code has this name, and not only as a part of a longer one.
fn names(code: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[test]
fn files_say_what_they_answer_and_stay_short() {
    let mut broken = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            broken.push(format!("{} does not begin with `//!`", source.path.display()));
        }
        let lines = source.text.lines().count();
        if lines > MOST_LINES {
            broken.push(format!("{} has {lines} lines", source.path.display()));
        }
        if source.path.ends_with("mod.rs") {
            broken.push(format!("{}: use `name.rs` beside `name/`", source.path.display()));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_repository_stands_alone() {
    let outside = concat!("../", "shared");
    let mut broken = Vec::new();
    for ending in [".rs", ".toml", ".md", ".proto", ".sh", ".py", ".json", ".txt", ".service", ".lock", "run"]
    {
        for path in files(&root(), ending) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains(outside) {
                broken.push(path.display().to_string());
            }
        }
    }
    assert!(broken.is_empty(), "these refer to {outside}:\n{}", broken.join("\n"));
}

#[test]
fn ring_is_the_only_provider_of_cryptography() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("a committed lock file");
    for unwanted in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{unwanted}\"")), "{unwanted} is in Cargo.lock");
    }
    assert!(lock.contains("name = \"ring\""));
}

#[test]
fn the_rig_is_no_dependency_of_the_product() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let dependencies = manifest.split("[dependencies]").nth(1).expect("it has dependencies");
    assert!(!dependencies.lines().any(|line| line.starts_with("chaos")), "the product depends on its rig");
}
