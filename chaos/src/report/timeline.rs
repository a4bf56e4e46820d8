//! One run as a drawing: a lane for what the rig did, the log, each node, and each server.

use super::{
    html::{escape, ms},
    telling::{at, each, steps, text},
};
use serde_json::Value;
use std::fmt::Write as _;

const WIDTH: f64 = 1180.0;
const LEFT: f64 = 110.0;
const LANE: f64 = 46.0;
/// The log's lane has rows, so that words do not lie on each other.
const ROWS: usize = 4;
const ROW: f64 = 14.0;
const TOP: f64 = 26.0;

/// Part of the time of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Milliseconds from the fault.
    pub from: f64,
    /// The end.
    pub to: f64,
}

impl Window {
    /// From before the fault to the end of everything.
    pub fn whole(story: &Value) -> Window {
        let ends =
            ["events", "changes", "rig"].into_iter().flat_map(|key| each(story, key)).map(|v| at(v, "at"));
        let acks = each(story, "acks").map(|span| at(span, "to"));
        let to = ends.chain(acks).fold(1_000.0, f64::max);
        Window { from: -1_000.0, to: to + 200.0 }
    }

    /// From the fault to the first acknowledgement elsewhere and the end of the last recovery, where that is much less.
    pub fn close(story: &Value) -> Option<Window> {
        let ended = each(story, "events").filter(|e| e["kind"] == "recovery_ended").map(|e| at(e, "at"));
        let to = ended.chain(story["record"]["first_write_ms"].as_f64()).fold(0.0, f64::max) * 1.1 + 50.0;
        let whole = Window::whole(story);
        (to > 50.0 && to < 0.7 * whole.to).then_some(Window { from: -0.08 * to, to })
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT) * (at - self.from) / (self.to - self.from)
    }

    fn holds(&self, at: f64) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

/// The drawing.
pub fn svg(story: &Value, window: Window) -> String {
    let nodes: Vec<u64> = each(story, "nodes").filter_map(|node| node["id"].as_u64()).collect();
    let servers: Vec<String> =
        each(story, "servers").map(|s| s.as_str().unwrap_or_default().to_owned()).collect();
    let log = TOP + LANE;
    let first_node = log + ROWS as f64 * ROW + 12.0;
    let first_server = first_node + nodes.len() as f64 * LANE;
    let height = first_server + servers.len() as f64 * LANE + 6.0;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\" xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" font-size=\"10\">\n"
    );
    scale(&mut out, window, height);
    lane(&mut out, "rig", TOP);
    rig(&mut out, story, window, TOP);
    lane(&mut out, "log", log);
    events(&mut out, story, window, log);
    for (number, node) in nodes.iter().enumerate() {
        let y = first_node + number as f64 * LANE;
        lane(&mut out, &format!("node {node}"), y);
        verdicts_and_steps(&mut out, story, window, *node, y);
    }
    for (number, address) in servers.iter().enumerate() {
        let y = first_server + number as f64 * LANE;
        lane(&mut out, &format!("server {} {address}", number + 1), y);
        server(&mut out, story, window, number as u64 + 1, y);
    }
    out + "</svg>\n"
}

fn scale(out: &mut String, window: Window, height: f64) {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
        .into_iter()
        .chain([1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5])
        .find(|step| (window.to - window.from) / step <= 12.0)
        .unwrap_or(1e6);
    let mut at = (window.from / step).ceil() * step;
    while at <= window.to {
        let x = window.x(at);
        let colour = if at == 0.0 { "#c00" } else { "#ddd" };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"14\" x2=\"{x:.1}\" y2=\"{height}\" stroke=\"{colour}\"/>"
        );
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"10\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
            ms(at)
        );
        at += step;
    }
}

fn lane(out: &mut String, name: &str, y: f64) {
    let (name, address) =
        name.split_once(' ').map_or((name.to_owned(), String::new()), |(a, b)| match b.split_once(' ') {
            Some((number, address)) => (format!("{a} {number}"), address.to_owned()),
            None => (format!("{a} {b}"), String::new()),
        });
    let _ =
        writeln!(out, "<text x=\"2\" y=\"{:.1}\" font-weight=\"bold\">{}</text>", y + 13.0, escape(&name));
    let _ = writeln!(
        out,
        "<text x=\"2\" y=\"{:.1}\" fill=\"#666\" font-size=\"8\">{}</text>",
        y + 24.0,
        escape(&address)
    );
    let _ = writeln!(out, "<line x1=\"0\" y1=\"{y:.1}\" x2=\"{WIDTH}\" y2=\"{y:.1}\" stroke=\"#eee\"/>");
}

/// Rows of a lane: a word is put where there is room for it, or left out.
struct Rows {
    /// Where each is free from.
    free: Vec<f64>,
}

impl Rows {
    fn new(count: usize) -> Rows {
        Rows { free: vec![f64::MIN; count] }
    }

    /// The row of a mark at `x`, and whether its word has room there.
    fn place(&mut self, x: f64, width: f64) -> (usize, bool) {
        let room = self.free.iter().position(|free| *free <= x);
        let row = room.unwrap_or(self.free.len() - 1);
        if room.is_some() {
            self.free[row] = x + width;
        }
        (row, room.is_some())
    }
}

/// About as wide as a word is drawn.
fn width(word: &str) -> f64 {
    word.chars().count() as f64 * 5.8 + 8.0
}

/// A tick, and a word where there is room; all of it shows under the pointer.
fn tick(out: &mut String, rows: &mut Rows, (x, top): (f64, f64), colour: &str, word: &str, all: &str) {
    let (row, fits) = rows.place(x, width(word));
    let (y, word) = (top + row as f64 * ROW, if fits { word } else { "" });
    let _ = writeln!(
        out,
        "<g><title>{}</title><line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text></g>",
        escape(all),
        y + 2.0,
        y + 14.0,
        x + 3.0,
        y + 11.0,
        escape(word)
    );
}

fn rig(out: &mut String, story: &Value, window: Window, y: f64) {
    let mut rows = Rows::new(3);
    for told in each(story, "rig").filter(|told| window.holds(at(told, "at"))) {
        let said = text(told, "text");
        let all = format!("{} {said}", ms(at(told, "at")));
        tick(out, &mut rows, (window.x(at(told, "at")), y), "#c00", &said, &all);
    }
}

fn events(out: &mut String, story: &Value, window: Window, y: f64) {
    let mut rows = Rows::new(ROWS);
    for event in each(story, "events").filter(|e| e["kind"] != "verdict" && window.holds(at(e, "at"))) {
        let (at, kind) = (at(event, "at"), text(event, "kind"));
        let all = format!("{} log {} {kind}: {}", ms(at), event["index"], text(event, "text"));
        tick(out, &mut rows, (window.x(at), y), "#046", &kind, &all);
    }
}

fn verdicts_and_steps(out: &mut String, story: &Value, window: Window, node: u64, y: f64) {
    let mine = format!("node {node} says ");
    let mut rows = Rows::new(1);
    for event in each(story, "events").filter(|e| e["kind"] == "verdict" && window.holds(at(e, "at"))) {
        let told = text(event, "text");
        if let Some(says) = told.strip_prefix(&mine) {
            let word = says.split(':').next().unwrap_or(says);
            let all = format!("{}: {says}", ms(at(event, "at")));
            tick(out, &mut rows, (window.x(at(event, "at")), y), "#850", word, &all);
        }
    }
    let mut rows = Rows::new(3);
    for step in steps(story).iter().filter(|step| step.node == node && window.holds(step.from)) {
        let (x, to) = (window.x(step.from), window.x(step.to.min(window.to)));
        let (row, fits) = rows.place(x, width(&step.name).max(to - x));
        let (top, word) = (y + 17.0 + row as f64 * 9.0, if fits { step.name.as_str() } else { "" });
        let colour = if step.outcome.starts_with("done") { "#8c8" } else { "#ec8" };
        let all = format!("{} on {}, {}: {}", step.name, step.server, ms(step.to - step.from), step.outcome);
        let _ = writeln!(
            out,
            "<g><title>{}</title><rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"8\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"8\">{}</text></g>",
            escape(&all),
            (to - x).max(2.0),
            x + 2.0,
            top + 7.0,
            escape(word)
        );
    }
}

/// What it was seen to be, above that the writes it acknowledged, below the statements it was sent.
fn server(out: &mut String, story: &Value, window: Window, number: u64, y: f64) {
    let mine: Vec<(f64, String)> = each(story, "changes")
        .filter(|change| change["server"].as_u64() == Some(number))
        .map(|change| (at(change, "at"), text(change, "seen")))
        .collect();
    for (index, (from, seen)) in mine.iter().enumerate() {
        let to = mine.get(index + 1).map_or(window.to, |(next, _)| *next).min(window.to);
        let from = from.max(window.from);
        if to <= from {
            continue;
        }
        let colour = match seen.as_str() {
            "writable" => "#9d9",
            "read-only" => "#ddd",
            _ => "#444",
        };
        let (x, width) = (window.x(from), window.x(to) - window.x(from));
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"9\" fill=\"{colour}\"><title>{}</title></rect>",
            y + 18.0,
            escape(&format!("{seen} from {} to {}", ms(from), ms(to)))
        );
    }
    for span in each(story, "acks").filter(|span| span["server"].as_u64() == Some(number)) {
        let (from, to) = (at(span, "from").max(window.from), at(span, "to").min(window.to));
        if to < from {
            continue;
        }
        let count = span["count"].as_f64().unwrap_or(0.0);
        let (x, tall) = (window.x(from), (count * 0.8).clamp(2.0, 15.0));
        let width = (window.x(to) - x).max(1.0);
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\" fill=\"#36c\"><title>{count} acknowledged writes</title></rect>",
            y + 17.0 - tall
        );
    }
    let sent = each(story, "statements")
        .filter(|s| s["server"].as_u64() == Some(number) && window.holds(at(s, "from")));
    for statement in sent {
        let x = window.x(at(statement, "from"));
        let all = format!(
            "{} from node {}: {}",
            ms(at(statement, "from")),
            statement["node"],
            text(statement, "sql")
        );
        let _ = writeln!(
            out,
            "<g><title>{}</title><path d=\"M{x:.1} {:.1} l4 9 l-8 0 z\" fill=\"#a0a\"/></g>",
            escape(&all),
            y + 29.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{super::telling::tests::story, *};

    #[test]
    fn everybody_has_a_lane_and_everything_a_mark() {
        let drawn = svg(&story(), Window::whole(&story()));
        for word in [
            "node 1",
            "node 2",
            "server 1",
            "server 2",
            "the fault",
            "recovery_started",
            "DeadPrimary",
            "fence",
            "drain",
        ] {
            assert!(drawn.contains(word), "{word}");
        }
        assert_eq!(drawn.matches("STOP REPLICA").count(), 1);
        assert_eq!(drawn.matches("acknowledged writes").count(), 3);
    }

    #[test]
    fn words_do_not_lie_on_each_other() {
        let mut rows = Rows::new(2);
        assert_eq!(
            (rows.place(0.0, 50.0), rows.place(10.0, 50.0), rows.place(20.0, 9.0)),
            ((0, true), (1, true), (1, false))
        );
        assert_eq!(rows.place(50.0, 10.0), (0, true));
    }

    #[test]
    fn the_close_window_ends_after_the_recovery() {
        let mut told = story();
        assert_eq!(Window::close(&told), None);
        told["record"]["first_write_ms"] = 95.0.into();
        let close = Window::close(&told).unwrap();
        assert!(close.from < 0.0 && close.to > 95.0 && close.to < Window::whole(&told).to);
        assert!(!svg(&told, Window { from: 0.0, to: 4.0 }).contains("DeadPrimary"));
    }
}
