//! The page: a table of all runs, then each with its drawing and everything that happened, in order.

use super::{
    class,
    html::{escape, ms},
    name,
    telling::{self, Line, each, text},
    timeline::{Window, svg},
};
use serde_json::Value;
use std::fmt::Write as _;

/// Sorts of lines, and what they are.
const SORTS: [(&str, &str); 7] = [
    ("rig", "what the rig did"),
    ("verdict", "what nodes say"),
    ("log", "log entries"),
    ("step", "steps"),
    ("sql", "statements"),
    ("server", "what servers are"),
    ("client", "acknowledged writes"),
];

const STYLE: &str = "
body { font: 14px/1.4 sans-serif; margin: 1.5em auto; max-width: 1240px; padding: 0 1em; color: #222; }
h1 { font-size: 1.4em; } h2 { font-size: 1.15em; border-top: 2px solid #ccc; padding-top: .8em; margin-top: 1.6em; }
table { border-collapse: collapse; font-size: 13px; } td, th { padding: 2px 8px; text-align: left; vertical-align: top; }
th { border-bottom: 1px solid #999; } .t { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.who { white-space: nowrap; } code { font-size: 12px; overflow-wrap: anywhere; } a { color: inherit; }
.passed { background: #e8f5e8; } .broken { background: #fbdcdc; } .rig { background: #fdf3d8; }
li.violation { color: #b00; font-weight: bold; } .note { color: #666; } summary { cursor: pointer; margin: .5em 0; }
tr.k-rig td { color: #c00; font-weight: bold; } tr.k-verdict { color: #850; } tr.k-log { color: #046; } tr.k-sql { color: #a0a; }
tr.k-server { color: #555; } tr.k-client { color: #36c; } label { margin-right: 1em; }
";

/// The whole page.
pub fn page(title: &str, stories: &[Value]) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title><style>{STYLE}{1}</style></head><body>\n<h1>Chaos: {0}</h1>\n",
        escape(title),
        hiding()
    );
    out += "<p class=\"note\">Times are from the fault. A run passed where it ended as its scenario demands and no checker found a \
            violation; the exit code of the command that played it has the last word.</p>\n";
    out += "<p class=\"note\">In the drawings: bars of a node are steps it carried out (green done, orange not); a server's band is green \
            while ordinary accounts can write there, grey while it is read-only, black while it does not answer; blue is how many writes \
            it acknowledged; triangles are statements of Quorate that change it. What has no room for its word shows it under the \
            pointer.</p>\n";
    out += &table(stories);
    for (number, story) in stories.iter().enumerate() {
        out += &run(number, story);
    }
    out + "</body></html>\n"
}

/// A box that is not ticked hides its lines: by style sheet, so that the page needs no script.
fn hiding() -> String {
    let rule = |(sort, _): &(&str, &str)| {
        format!(".b-{sort}:not(:checked) ~ table tr.k-{sort} {{ display: none; }}\n")
    };
    SORTS.iter().map(rule).collect()
}

fn table(stories: &[Value]) -> String {
    let mut out = "<table><tr><th>run</th><th>outcome</th><th>first write</th><th>acknowledged</th><th>lost</th><th>two at once</th><th>violations</th></tr>\n".to_owned();
    for (number, story) in stories.iter().enumerate() {
        let record = &story["record"];
        let first = record["first_write_ms"].as_f64().map_or_else(|| "-".into(), ms);
        let _ = writeln!(
            out,
            "<tr class=\"{}\"><td><a href=\"#run-{number}\">{}</a></td><td>{}</td><td class=\"t\">{first}</td><td class=\"t\">{}</td><td class=\"t\">{}</td><td class=\"t\">{}</td><td class=\"t\">{}</td></tr>",
            class(record),
            escape(&name(record)),
            escape(&text(record, "outcome")),
            record["acked_writes"],
            record["lost_acked_writes"],
            ms(record["double_primary_ms"].as_f64().unwrap_or(0.0)),
            each(record, "violations").count(),
        );
    }
    out + "</table>\n"
}

fn run(number: usize, story: &Value) -> String {
    let record = &story["record"];
    let mut out =
        format!("<h2 id=\"run-{number}\" class=\"{}\">{}</h2>\n", class(record), escape(&name(record)));
    let _ = writeln!(
        out,
        "<p>{}. {}</p><p class=\"note\">{} nodes, seed {}, commit {}, {} profile.</p>",
        escape(&text(record, "outcome")),
        escape(&text(record, "reason")),
        record["nodes"],
        record["seed"],
        escape(&text(record, "commit")),
        escape(&text(record, "profile")),
    );
    out += "<ul>\n";
    for violation in each(record, "violations") {
        let _ =
            writeln!(out, "<li class=\"violation\">{}</li>", escape(violation.as_str().unwrap_or_default()));
    }
    for note in each(record, "notes") {
        let _ = writeln!(out, "<li>{}</li>", escape(note.as_str().unwrap_or_default()));
    }
    for unchecked in each(record, "unchecked") {
        let _ = writeln!(
            out,
            "<li class=\"note\">not judged: {}</li>",
            escape(unchecked.as_str().unwrap_or_default())
        );
    }
    out += "</ul>\n";
    if story["servers"].is_null() {
        return out + "<p class=\"note\">Its artefacts are gone; this is all that the record says.</p>\n";
    }
    if let Some(close) = Window::close(story) {
        let _ = writeln!(out, "<p>From the fault to the end of the recovery:</p>{}", svg(story, close));
    }
    let _ = writeln!(out, "<p>The whole run:</p>{}", svg(story, Window::whole(story)));
    out + &told(&telling::lines(story), class(record) == "broken")
}

fn told(lines: &[Line], open: bool) -> String {
    let mut out =
        format!("<details{}><summary>Everything in order</summary>\n", if open { " open" } else { "" });
    for (sort, what) in SORTS {
        let _ = writeln!(out, "<input type=\"checkbox\" checked class=\"b-{sort}\"> {what} &nbsp;");
    }
    out += "<table><tr><th>from the fault</th><th>who</th><th>what</th></tr>\n";
    for Line { at, sort, who, text } in lines {
        let _ = writeln!(
            out,
            "<tr class=\"k-{sort}\"><td class=\"t\">{}</td><td class=\"who\">{}</td><td>{}</td></tr>",
            ms(*at),
            escape(who),
            if *sort == "sql" { format!("<code>{}</code>", escape(text)) } else { escape(text) }
        );
    }
    out + "</table></details>\n"
}

#[cfg(test)]
mod tests {
    use super::{super::telling::tests::story, *};
    use serde_json::json;

    #[test]
    fn a_page_needs_nothing_else_and_shows_text_as_text() {
        let mut told = story();
        told["record"]["violations"] = json!(["lost <b>3</b>"]);
        let page = page("a & b", &[told]);
        assert!(page.contains("lost &lt;b&gt;3&lt;/b&gt;") && page.contains("Chaos: a &amp; b"));
        for word in ["<script", "src=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("class=\"broken\"") && page.contains("<details open>"));
        // Every line can be hidden by its box.
        for (sort, _) in SORTS {
            assert!(
                page.contains(&format!("class=\"b-{sort}\""))
                    && page.contains(&format!("tr.k-{sort} {{ display: none; }}"))
            );
        }
    }

    #[test]
    fn a_record_alone_is_told_too() {
        let alone = json!({"record": {"scenario": "flap", "flavor": "mysql", "run": 1, "outcome": "skipped", "reason": "no root"}});
        let page = page("x", &[alone]);
        assert!(page.contains("no root") && page.contains("artefacts are gone") && !page.contains("<svg"));
    }
}
