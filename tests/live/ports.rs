//! Ports of loopback that nobody uses and nobody is given by chance.

use std::{
    hash::{BuildHasher, RandomState},
    net::TcpListener,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Below the ports that the kernel hands out itself: an outgoing connection cannot take one between here and its use.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// Never the same one twice in a process, and a random beginning for each process.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new(RandomState::new().hash_one(0) as u32 % COUNT));
    loop {
        let port = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(port).expect("below 32 000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
