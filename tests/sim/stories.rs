//! Bugs that seeds have found, told as sentences; each batch plays them first. A seed means the same history as long as
//! `generate` does; who changes that looks for another seed that fails without the fix.

use super::real::Tier;

/// Seed, and what it once showed.
pub fn stories(tier: Tier) -> &'static [(u64, &'static str)] {
    match tier {
        Tier::A => MODEL,
        Tier::B => RAFT,
    }
}

const RAFT: &[(u64, &str)] = &[
    (
        51,
        "a node that was killed in a sync makes durable what it finds before it acknowledges it again, and loses none of it with the power",
    ),
    (
        2634,
        "a leader whose office nobody takes when it hands it over gives it up, and the group has a leader again",
    ),
    (
        2717,
        "a candidate that lost and follows the winner of its term opens after a crash, whatever its mark says of its vote",
    ),
    (
        44177,
        "operators whose node is killed while they ask it lose the connection, and wait in none of its memory (a fault of the rig)",
    ),
    (
        21828,
        "whom a superseded recovery pointed at its candidate is pointed back when the next one is given up as well",
    ),
    (45893, "the same, of a request that was sent twice through a node that is killed"),
];

const MODEL: &[(u64, &str)] = &[
    (737, "a leader without a majority does not ask in circles to take a recovery over"),
    (
        6751,
        "a follower that is given a late snapshot keeps what it has acknowledged behind it (a fault of the model log)",
    ),
    (816, "the same, while the way between two nodes is cut one way"),
    (
        2001415,
        "what an earlier leader sends over a session that its successor has ended lands nowhere, though its permit still holds",
    ),
    (2133113, "the same, twelve seconds into a step whose answer was held up on the way"),
    (
        1171,
        "a candidate whose order to take writes lands after its recovery has failed is fenced, and only the next one takes writes",
    ),
    (
        117064,
        "a voter that does not know the last membership yet votes for a candidate that was added by it (a fault of the model log)",
    ),
    (
        408969,
        "a returned primary that is being pointed at a primary which is replaced meanwhile is compared with the next one, and pointed at that",
    ),
    (
        2106587,
        "what an acker alone holds is not lost where the record does not count it yet, because another had answered at its address",
    ),
    (
        2164100,
        "an acker that is started twice within two seconds is not trusted for what it held in the first life",
    ),
    (
        3000084,
        "a failover ends when its primary is back and a majority calls it healthy, however long the drain may last",
    ),
    (
        3003285,
        "a node that takes its mark behind its successor's look for sessions sends nothing that was allowed before",
    ),
    (
        4001501,
        "a MariaDB replica that has passed a switchover it has not applied yet does not seem to lack what was written before",
    ),
    (
        4069206,
        "a candidate that was never detached receives nothing behind the comparison by which it is rejoined",
    ),
    (6059625, "a node whose machine was suspended tells nobody what it knew before"),
    (
        6066591,
        "behind a drain of four seconds a primary that is back for long enough ends the failover, though nobody says anything new",
    ),
    (
        9065165,
        "a MariaDB primary that lost all that it had written since its promotion is not opened when the failover is given up",
    ),
    (9219343, "a leader whose machine was suspended finds what it was told before as old as it is"),
    (
        9204433,
        "a MariaDB replica that received the newest rows behind a switchover, and has not applied up to it, is not called shrunk",
    ),
    (6054130, "an urgent round on a primary that is replaced meanwhile is no round on the next one"),
    (
        23338,
        "on MariaDB a replica whose applier stops again at once is re-pointed without stopping its receiver",
    ),
];
