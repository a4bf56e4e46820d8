//! A value that is told as it changes. A channel for each who waits: several that wait on one are woken in no particular
//! order, and a seed would not be a history.

use std::sync::Mutex;

use tokio::sync::watch;

use super::world::POISON;

/// The value, and who is told.
pub struct Told<T> {
    inner: Mutex<(T, Vec<watch::Sender<T>>)>,
}

impl<T: Copy + PartialEq> Told<T> {
    /// Begins with a value.
    pub fn new(value: T) -> Self {
        Self { inner: Mutex::new((value, Vec::new())) }
    }

    /// The value.
    pub fn now(&self) -> T {
        self.inner.lock().expect(POISON).0
    }

    /// Sets it and tells everyone, in the order they asked.
    pub fn tell(&self, value: T) {
        let mut inner = self.inner.lock().expect(POISON);
        if std::mem::replace(&mut inner.0, value) != value {
            inner.1.retain(|one| one.send(value).is_ok());
        }
    }

    /// A receiver of one's own.
    pub fn subscribe(&self) -> watch::Receiver<T> {
        let mut inner = self.inner.lock().expect(POISON);
        let (tx, rx) = watch::channel(inner.0);
        // Most only look once.
        if inner.1.len() >= 16 {
            inner.1.retain(|one| !one.is_closed());
        }
        inner.1.push(tx);
        rx
    }
}
