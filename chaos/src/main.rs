//! The test rig of Quorate.
fn main() {}
