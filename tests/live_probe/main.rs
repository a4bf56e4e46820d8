//! The prober against real servers of both flavours: what each look brings, and in which order.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

#[path = "../live/mod.rs"]
mod live;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use live::{Install, PATIENCE, Server, account, one_at_a_time};
use quorate::{
    model::{facts::ServerFacts, server::Flavor},
    probe::{self, Mode, Outcome, ProbeEvent, ProbeHandle, ProbeSettings, ProbeTarget},
};
use tokio::{sync::mpsc, time::timeout};

/// Makes a test of each scenario for each flavour.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::scenario(crate::Flavor::MySql, super::$name).await })*
        }
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { crate::scenario(crate::Flavor::MariaDb, super::$name).await })*
        }
    };
}

/// The same for measurements, which are run by name.
macro_rules! on_both_ignored {
    ($name:ident) => {
        mod mysql {
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "a measurement"]
            async fn $name() {
                crate::scenario(crate::Flavor::MySql, super::$name).await
            }
        }
        mod mariadb {
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "a measurement"]
            async fn $name() {
                crate::scenario(crate::Flavor::MariaDb, super::$name).await
            }
        }
    };
}

mod bad_input;
mod cost;
mod looks;
mod tls;

async fn scenario<F: Future<Output = ()>>(flavor: Flavor, run: impl FnOnce(Install) -> F) {
    let Some(install) = Install::find(flavor) else { return };
    let _turn = one_at_a_time().await;
    run(install).await;
}

/// A prober and what it tells.
struct Watch {
    handle: ProbeHandle,
    events: mpsc::Receiver<ProbeEvent>,
}

impl Watch {
    fn of(server: &Server, settings: ProbeSettings) -> Self {
        let (tx, events) = mpsc::channel(64);
        let target = ProbeTarget { server: None, address: server.address() };
        Self { handle: probe::spawn(target, Arc::new(account()), 9, settings, tx), events }
    }

    async fn next(&mut self) -> ProbeEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the prober runs")
    }

    async fn until(&mut self, what: &str, wished: impl Fn(&ProbeEvent) -> bool) -> ProbeEvent {
        let began = Instant::now();
        loop {
            let event = self.next().await;
            if wished(&event) {
                return event;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: last {event:?}");
        }
    }
}

fn slow() -> ProbeSettings {
    ProbeSettings { interval: Duration::from_secs(30), ..ProbeSettings::default() }
}

fn facts(event: &ProbeEvent) -> Option<&ServerFacts> {
    match &event.outcome {
        Outcome::Answered { facts, .. } => Some(facts),
        _ => None,
    }
}

fn is_answer(event: &ProbeEvent) -> bool {
    matches!(event.outcome, Outcome::Answered { .. })
}

on_both! {
    the_end_of_an_idle_connection_is_told_at_once,
}

async fn the_end_of_an_idle_connection_is_told_at_once(install: Install) {
    let mut server = Server::start(&install, 1, &[]).await;
    let mut watch = Watch::of(&server, slow());
    let first = watch.next().await;
    assert!(is_answer(&first) && first.fresh, "{first:?}");
    // The next probe is half a minute away: only the connection itself can tell.
    server.kill();
    let end = watch.next().await;
    assert!(matches!(end.outcome, Outcome::Closed(_)), "{end:?}");
    // A dying process may still accept and reset.
    let refused = watch.until("a refusal", |event| !matches!(event.outcome, Outcome::Closed(_))).await;
    assert!(matches!(refused.outcome, Outcome::Refused) && refused.fresh, "{refused:?}");

    let urgent = watch.handle.urgent(PATIENCE).await.expect("an urgent answer");
    assert_eq!(urgent.outcome, Outcome::Refused);

    watch.handle.set(ProbeSettings { mode: Mode::Suspected, ..slow() });
    server.boot().await;
    watch.until("it is met again", is_answer).await;
}
