//! How many cases, from which seed, and how valid bytes are spoilt. Shared by everything that fuzzes.
//!
//! By default the same few cases on every run. `QUORATE_FUZZ=100` takes a hundred times as many, `QUORATE_FUZZ_SEED=7`
//! others; a failure prints the smallest input that shows it.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a whole number"))
}

/// So many cases, or as many times more as is asked for.
pub fn cases(cases: u32) -> Config {
    let factor = number("QUORATE_FUZZ").map_or(1, |factor| u32::try_from(factor).expect("a factor"));
    let seed = RngSeed::Fixed(number("QUORATE_FUZZ_SEED").unwrap_or(2));
    let max_shrink_iters = 2_000;
    Config {
        cases: cases.saturating_mul(factor),
        rng_seed: seed,
        failure_persistence: None,
        max_shrink_iters,
        ..Config::default()
    }
}

/// One way to spoil bytes; places are taken modulo the length.
#[derive(Debug, Clone)]
pub enum Spoil {
    /// A bit is turned.
    Flip(usize, u8),
    /// A byte becomes another.
    Set(usize, u8),
    /// A number in the bytes becomes an absurd one: eight equal bytes.
    Fill(usize, u8),
    /// The rest is missing.
    Cut(usize),
    /// A piece is missing.
    Drop(usize, usize),
    /// A piece is there twice.
    Double(usize, usize),
    /// Bytes that do not belong there.
    Insert(usize, Vec<u8>),
}

/// Any of them. Bytes with a meaning in MessagePack, Protobuf and MySQL's protocol are more frequent.
pub fn spoil() -> impl Strategy<Value = Spoil> {
    let telling = prop::sample::select(vec![
        0x00, 0x01, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xc0, 0xc1, 0xc4, 0xc6, 0xcb, 0xcf, 0xd3, 0xd9, 0xdb,
        0xdc, 0xdd, 0xde, 0xdf, 0xfb, 0xfc, 0xfd, 0xfe, 0xff,
    ]);
    let byte = prop_oneof![any::<u8>(), telling];
    prop_oneof![
        4 => (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Spoil::Flip(at, bit)),
        4 => (any::<usize>(), byte.clone()).prop_map(|(at, byte)| Spoil::Set(at, byte)),
        2 => (any::<usize>(), byte.clone()).prop_map(|(at, byte)| Spoil::Fill(at, byte)),
        1 => any::<usize>().prop_map(Spoil::Cut),
        1 => (any::<usize>(), 1..40_usize).prop_map(|(at, length)| Spoil::Drop(at, length)),
        1 => (any::<usize>(), 1..200_usize).prop_map(|(at, length)| Spoil::Double(at, length)),
        1 => (any::<usize>(), prop::collection::vec(byte, 1..12)).prop_map(|(at, bytes)| Spoil::Insert(at, bytes)),
    ]
}

impl Spoil {
    /// Does it.
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let at = |at: usize| if length == 0 { 0 } else { at % length };
        match self {
            Spoil::Insert(place, more) => drop(bytes.splice(at(*place)..at(*place), more.iter().copied())),
            _ if length == 0 => {}
            Spoil::Flip(place, bit) => bytes[at(*place)] ^= 1 << bit,
            Spoil::Set(place, byte) => bytes[at(*place)] = *byte,
            Spoil::Fill(place, byte) => {
                let from = at(*place);
                let upto = length.min(from + 8);
                bytes[from..upto].fill(*byte);
            }
            Spoil::Cut(place) => bytes.truncate(at(*place)),
            Spoil::Drop(place, count) => drop(bytes.drain(at(*place)..length.min(at(*place) + count))),
            Spoil::Double(place, count) => {
                let piece = bytes[at(*place)..length.min(at(*place) + count)].to_vec();
                bytes.splice(at(*place)..at(*place), piece);
            }
        }
    }
}

/// A few of them.
pub fn spoils() -> impl Strategy<Value = Vec<Spoil>> {
    prop::collection::vec(spoil(), 1..6)
}

/// Texts that are no names: empty, long, with characters that steer a terminal or mean something to a parser.
pub fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "", " ", "0", "-1", "1", "NULL", "ON", "9e999", "NaN", "18446744073709551615", "18446744073709551616",
            "-9223372036854775808", "9223372036854775807", "4294967296", "\u{0}", "\n", "\x1b[2J\x1b]0;x\x07", "\u{202e}",
            "\u{9b}31m", "'; DROP TABLE t; --", "\\", "%s%n", "../../etc/passwd", "[::1]:3306", "[::1", "a b", "a@b/c",
            "::ffff:1.2.3.4", "😀😀😀", "ÄÖÜ", "00000000-0000-0000-0000-000000000000", "0-1-18446744073709551615",
            "00000000-0000-0000-0000-000000000001:1-9223372036854775806", "true", "{}", "[[[[[[[[", "1:1:1:1",
        ]).prop_map(str::to_owned),
        2 => "\\PC{0,40}",
        1 => prop::collection::vec(any::<char>(), 0..40).prop_map(String::from_iter),
        1 => (any::<char>(), 1_000..20_000_usize).prop_map(|(c, count)| c.to_string().repeat(count)),
    ]
}

/// Numbers at whose edges arithmetic fails.
pub fn odd_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![
            0,
            1,
            2,
            u64::MAX,
            u64::MAX - 1,
            1 << 63,
            (1 << 63) - 1,
            1 << 32,
            (1 << 32) - 1,
            1 << 53
        ]),
        any::<u64>(),
        0..1_000_u64,
    ]
}
