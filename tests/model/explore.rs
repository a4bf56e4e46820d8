//! Breadth first over every world that can be reached: the first path to a broken promise is a shortest one.

use std::{collections::HashMap, time::Instant};

use crate::{memo, scenario::Scenario, world::World};

/// What came of it.
pub struct Explored {
    pub states: usize,
    pub transitions: usize,
    /// Longest path that was followed.
    pub depth: usize,
    /// Nothing new is left to be found within the scenario's faults.
    pub closed: bool,
    /// Worlds in which every recovery is over, and those in which all is well.
    pub settled: usize,
    pub well: usize,
    pub took_ms: u64,
    /// What is wrong, and how it came about.
    pub wrong: Option<(String, Vec<String>)>,
}

/// How a world was first reached: from which one, and by which of its events.
type Parent = (u32, u16);

struct Explorer {
    scenario: &'static Scenario,
    faults: u32,
    seen: HashMap<u64, u32>,
    parents: Vec<Parent>,
    /// Events that are no faults, from and to.
    edges: Vec<(u32, u32)>,
    settled: Vec<bool>,
    well: Vec<bool>,
    transitions: usize,
}

/// Follows every path of `depth` events at most.
pub fn explore(scenario: &'static Scenario, faults: u32, depth: usize) -> Explored {
    let began = Instant::now();
    memo::forget();
    let first = scenario.begin(faults);
    let mut explorer = Explorer {
        scenario,
        faults,
        seen: HashMap::from([(first.fingerprint(), 0)]),
        parents: vec![(0, 0)],
        edges: Vec::new(),
        settled: vec![first.settled()],
        well: vec![false],
        transitions: 0,
    };
    let (mut layer, mut deep) = (vec![(0, first)], 0);
    let mut wrong = None;
    while deep < depth && !layer.is_empty() && wrong.is_none() {
        let mut next = Vec::new();
        for (from, world) in layer {
            if let Err(found) = explorer.expand(from, &world, &mut next) {
                wrong = Some(found);
                break;
            }
        }
        layer = next;
        deep += 1;
    }
    if std::env::var_os("SHOW").is_some() {
        for (id, world) in layer.iter().step_by(layer.len() / 6 + 1) {
            explorer.path(*id).iter().for_each(|p| println!("    {p}"));
            println!(
                "{:?}",
                world
                    .flights
                    .iter()
                    .map(|f| (f.node, f.step.to_string(), f.place, f.heard, f.term, f.cleared))
                    .collect::<Vec<_>>()
            );
            println!("{:?} {:?} {:?}", world.servers, world.memory, world.leader);
        }
    }
    let open: Vec<u32> = layer.iter().map(|(id, _)| *id).collect();
    if wrong.is_none() {
        wrong = explorer.stuck(&open);
    }
    Explored {
        states: explorer.parents.len(),
        transitions: explorer.transitions,
        depth: deep,
        closed: open.is_empty(),
        settled: explorer.settled.iter().filter(|is| **is).count(),
        well: explorer.well.iter().filter(|is| **is).count(),
        took_ms: began.elapsed().as_millis() as u64,
        wrong,
    }
}

impl Explorer {
    fn expand(
        &mut self,
        from: u32,
        world: &World,
        next: &mut Vec<(u32, World)>,
    ) -> Result<(), (String, Vec<String>)> {
        for (nth, event) in world.events().into_iter().enumerate() {
            let after = world.after(event);
            self.transitions += 1;
            if let Some(what) = &after.broken {
                let mut path = self.path(from);
                path.push(world.told(event));
                return Err((what.clone(), path));
            }
            let print = after.fingerprint();
            let new = self.parents.len() as u32;
            let to = *self.seen.entry(print).or_insert(new);
            if to == new {
                self.parents.push((from, nth as u16));
                self.settled.push(after.settled());
                self.well.push(after.is_well());
                next.push((new, after));
            }
            if !event.is_fault() {
                self.edges.push((from, to));
            }
        }
        Ok(())
    }

    /// From every world the end of every recovery can be reached without another fault; else the first from which it cannot.
    /// Worlds that were not followed any further count as such an end.
    fn stuck(&self, open: &[u32]) -> Option<(String, Vec<String>)> {
        let mut good = self.settled.clone();
        open.iter().for_each(|id| good[*id as usize] = true);
        let stuck = self.unreached(good)?;
        Some((
            "P4: stuck: from here no recovery ends any more without another fault".into(),
            self.path(stuck),
        ))
    }

    /// The first world from which none of `good` can be reached: backwards over the edges until nothing is added.
    fn unreached(&self, mut good: Vec<bool>) -> Option<u32> {
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); good.len()];
        self.edges.iter().for_each(|(from, to)| into[*to as usize].push(*from));
        let mut todo: Vec<u32> = (0..good.len() as u32).filter(|id| good[*id as usize]).collect();
        while let Some(id) = todo.pop() {
            for from in &into[id as usize] {
                if !std::mem::replace(&mut good[*from as usize], true) {
                    todo.push(*from);
                }
            }
        }
        good.iter().position(|is| !is).map(|id| id as u32)
    }

    /// The events that lead to a world, in words, by going there once more.
    fn path(&self, id: u32) -> Vec<String> {
        let mut ways = Vec::new();
        let mut at = id;
        while at != 0 {
            let (from, nth) = self.parents[at as usize];
            ways.push(nth);
            at = from;
        }
        let mut world = self.scenario.begin(self.faults);
        let mut told = Vec::new();
        for nth in ways.into_iter().rev() {
            let event = world.events()[usize::from(nth)];
            told.push(world.told(event));
            world = world.after(event);
        }
        told
    }
}
