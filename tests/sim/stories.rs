//! Bugs that seeds have found, told as sentences; each batch plays them first. A seed means the same history as long as
//! `generate` does; who changes that looks for another seed that fails without the fix.

/// Seed, and what it once showed.
pub const STORIES: &[(u64, &str)] = &[
    (737, "a leader without a majority does not ask in circles to take a recovery over"),
    (816, "the same, while the way between two nodes is cut one way"),
    (
        1171,
        "a candidate whose order to take writes lands after its recovery has failed is fenced, and only the next one takes writes",
    ),
];
