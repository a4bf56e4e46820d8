//! Each problem code has a runbook that agrees with the table of problems, and every command in it can be typed.

use std::{collections::BTreeSet, fs};

use clap::Parser;
use quorate::{
    cli::Cli,
    core::analysis::{Code, Repair, rows},
};

const SECTIONS: [&str; 5] = ["## Meaning", "## Look", "## Act", "## Verify", "## Undo"];

fn folder() -> String {
    format!("{}/docs/runbooks", env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    let path = format!("{}/{name}.md", folder());
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).expect("a plain value").as_str().expect("a name").to_owned()
}

#[test]
fn each_code_has_a_page_that_agrees_with_its_row() {
    let index = page("README");
    for code in Code::ALL {
        let (text, row) = (page(&code.to_string()), rows::row(code));
        assert!(text.starts_with(&format!("# {code}\n")), "{code}: the title");
        let repair = match row.repair {
            Repair::Nothing => "nothing automatic",
            Repair::ReplacePrimary => "the primary is replaced",
        };
        let head = format!("Class {}, {}; repair: {repair}", word(&row.class), word(&row.severity));
        assert!(text.contains(&head), "{code}: no `{head}`");
        let sections: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(sections, SECTIONS, "{code}");
        let line = format!(
            "| [{code}]({code}.md) | {} | {} | {} |",
            word(&row.class),
            word(&row.severity),
            row.describes
        );
        assert!(index.contains(&line), "the index lacks: {line}");
    }
}

#[test]
fn no_page_is_about_a_code_that_is_gone() {
    let known: BTreeSet<String> =
        Code::ALL.iter().map(|code| format!("{code}.md")).chain(["README.md".into()]).collect();
    for entry in fs::read_dir(folder()).expect("the runbooks") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(known.contains(&name), "{name} is no code's");
    }
}

#[test]
fn every_command_in_a_runbook_can_be_typed() {
    let mut tried = 0;
    for code in Code::ALL {
        for command in commands(&page(&code.to_string())) {
            if let Err(error) = Cli::try_parse_from(words(&command)) {
                panic!("{code}: `{command}`: {error}");
            }
            tried += 1;
        }
    }
    assert!(tried > 40, "only {tried} commands were found");
}

/// Lines of code blocks and inline code that begin with the program's name.
fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("quorate ")).map(str::to_owned);
    let inline =
        text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("quorate ")).map(str::to_owned);
    lines.chain(inline.filter(|code| !code.contains('\n'))).collect()
}

/// Words as a shell would split them, with single quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (n, part) in command.split('\'').enumerate() {
        if n % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// `FILE::TEST` or `FILE/MODULE::TEST`, below `tests`.
#[test]
fn the_tests_that_the_page_on_bad_input_names_exist() {
    let root = env!("CARGO_MANIFEST_DIR");
    let page = fs::read_to_string(format!("{root}/docs/bad-input.md")).expect("the page");
    let named: Vec<&str> = page.split('`').filter(|word| word.contains("::")).collect();
    assert!(named.len() > 20, "the table is there");
    for name in named {
        let (file, test) = name.rsplit_once("::").expect("checked above");
        let paths = [format!("{root}/tests/{file}.rs"), format!("{root}/tests/{file}/main.rs")];
        let text = paths.iter().find_map(|path| fs::read_to_string(path).ok());
        let text = text.unwrap_or_else(|| panic!("{name}: no such file"));
        assert!(text.contains(&format!("fn {test}(")), "{name}: no such test");
    }
}
