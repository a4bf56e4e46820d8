//! What the fleet asks of the network: whether packets from one server reach another, and when.

/// A server of the fleet, by its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerNo(pub usize);

/// The network between servers. Whoever changes what `path` answers, or what it will answer, tells the fleet so
/// ([`super::Fleet::paths_changed`]): quiet streams are not looked at in between.
pub trait Net {
    /// Milliseconds that a packet sent now from one server's host to another's takes; `None`: it does not arrive. A lost
    /// packet that a retransmission carries over is a longer time, not `None`.
    fn path(&mut self, from: ServerNo, to: ServerNo) -> Option<u64>;
}

/// A network where everything arrives at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenNet;

impl Net for OpenNet {
    fn path(&mut self, _: ServerNo, _: ServerNo) -> Option<u64> {
        Some(0)
    }
}
