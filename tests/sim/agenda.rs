//! What happens next in the world: by time, and then by when it was asked for. Most of it is due within a
//! quarter of a second: that lies in a ring of one place a millisecond, and nothing is compared or moved.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// Milliseconds that the ring holds.
const RING_MS: u64 = 256;
/// Places a word of the map tells of.
const WORD: u64 = u64::BITS as u64;

struct Far<T> {
    at: u64,
    order: u64,
    what: T,
}

impl<T> PartialEq for Far<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl<T> Eq for Far<T> {}
impl<T> PartialOrd for Far<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Far<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// What is to come.
pub struct Agenda<T> {
    /// The ring begins here; nothing is due earlier.
    from: u64,
    ring: Vec<VecDeque<T>>,
    /// A bit for each place that holds something.
    map: [u64; (RING_MS / WORD) as usize],
    /// What is due behind the ring.
    far: BinaryHeap<Reverse<Far<T>>>,
    order: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        let ring = std::iter::repeat_with(VecDeque::new).take(RING_MS as usize).collect();
        Self { from: 0, ring, map: [0; (RING_MS / WORD) as usize], far: BinaryHeap::new(), order: 0 }
    }
}

impl<T> Agenda<T> {
    /// Puts something in, at `at` or, if that is past, at the present.
    pub fn push(&mut self, at: u64, what: T) {
        let at = at.max(self.from);
        if at - self.from < RING_MS {
            return self.put(at, what);
        }
        self.order += 1;
        self.far.push(Reverse(Far { at, order: self.order, what }));
    }

    fn put(&mut self, at: u64, what: T) {
        let place = at % RING_MS;
        self.ring[place as usize].push_back(what);
        self.map[(place / WORD) as usize] |= 1 << (place % WORD);
    }

    /// When the next is due.
    pub fn next(&self) -> Option<u64> {
        self.first_in_ring().or_else(|| self.far.peek().map(|Reverse(far)| far.at))
    }

    fn first_in_ring(&self) -> Option<u64> {
        let begin = self.from % RING_MS;
        let words = RING_MS / WORD;
        // The first word is looked at twice: behind the beginning, and in the end before it.
        (0..=words).find_map(|step| {
            let word = (begin / WORD + step) % words;
            let behind = u64::MAX << (begin % WORD);
            let bits = match step {
                0 => self.map[word as usize] & behind,
                _ if step == words => self.map[word as usize] & !behind,
                _ => self.map[word as usize],
            };
            let place = word * WORD + u64::from(bits.trailing_zeros());
            (bits != 0).then(|| self.from + (place + RING_MS - begin) % RING_MS)
        })
    }

    /// Takes the next that is due at `now` or before it.
    pub fn take_due(&mut self, now: u64) -> Option<T> {
        if self.from < now {
            let next = self.next().filter(|next| *next <= now);
            self.go_on_to(next.unwrap_or(now));
        }
        let place = self.from % RING_MS;
        let due = &mut self.ring[place as usize];
        let what = due.pop_front();
        if due.is_empty() {
            self.map[(place / WORD) as usize] &= !(1 << (place % WORD));
        }
        what
    }

    /// The ring begins at `at`: what lay behind it and lies in it now comes before whatever is asked for from now on.
    fn go_on_to(&mut self, at: u64) {
        self.from = self.from.max(at);
        while self.far.peek().is_some_and(|Reverse(far)| far.at - self.from < RING_MS) {
            if let Some(Reverse(far)) = self.far.pop() {
                self.put(far.at, far.what);
            }
        }
    }
}
