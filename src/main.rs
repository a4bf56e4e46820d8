//! The daemon and the client commands of Quorate.
fn main() {}
