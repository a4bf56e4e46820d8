//! The high-water mark: what was durable at the last sync, kept outside the database.
//!
//! sled takes a damaged end of its file for a torn write and silently goes on without it. That would be amnesia: a
//! forgotten vote or acknowledged entry. The mark is written after each sync (without a sync of its own), so that it
//! never runs ahead of what is durable; a database that falls behind it has lost something.

use std::io;

use super::base::{Slots, damaged};
use crate::raft::types::{LogId, Vote};

const MAGIC: u32 = 0x5152_4d31;
const SLOT_BYTES: usize = 64;

/// Bytes of the two slots.
pub const BYTES: usize = SLOT_BYTES * 2;

/// Newest log id and vote known to be durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// (term, index) of the last log entry.
    pub last: Option<(u64, u64)>,
    /// (term, node, committed) of the vote.
    pub vote: Option<(u64, u64, bool)>,
}

impl Mark {
    /// The part of a log id that the mark keeps.
    pub fn of_log(id: &LogId) -> (u64, u64) {
        (id.committed_leader_id().term, id.index())
    }

    /// The part of a vote that the mark keeps.
    pub fn of_vote(vote: &Vote) -> (u64, u64, bool) {
        (vote.leader_id.term, vote.leader_id.voted_for, vote.committed)
    }

    fn encode(&self, sequence: u64) -> [u8; SLOT_BYTES] {
        let (last_term, last_next) = self.last.map_or((0, 0), |(term, index)| (term, index + 1));
        let (vote_term, vote_node, committed) = self.vote.unwrap_or_default();
        let flags = u64::from(self.vote.is_some()) | u64::from(committed) << 1;
        let mut slot = [0; SLOT_BYTES];
        slot[..4].copy_from_slice(&MAGIC.to_le_bytes());
        for (place, word) in
            [sequence, last_term, last_next, vote_term, vote_node, flags].into_iter().enumerate()
        {
            slot[8 + place * 8..16 + place * 8].copy_from_slice(&word.to_le_bytes());
        }
        let sum = crc32fast::hash(&slot[..SLOT_BYTES - 4]);
        slot[SLOT_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        slot
    }

    fn decode(slot: &[u8]) -> Option<(u64, Mark)> {
        let slot: &[u8; SLOT_BYTES] = slot.try_into().ok()?;
        let (content, sum) = slot.split_last_chunk::<4>()?;
        if u32::from_le_bytes(*sum) != crc32fast::hash(content) || slot[..4] != MAGIC.to_le_bytes() {
            return None;
        }
        let word = |place: usize| {
            let bytes = slot[8 + place * 8..16 + place * 8].try_into().unwrap_or_default();
            u64::from_le_bytes(bytes)
        };
        let last = word(2).checked_sub(1).map(|index| (word(1), index));
        let vote = (word(5) & 1 == 1).then_some((word(3), word(4), word(5) & 2 == 2));
        Some((word(0), Mark { last, vote }))
    }
}

/// What holds it: two slots written in turn, so that a torn write leaves the older one.
pub struct MarkFile {
    slots: Box<dyn Slots>,
    sequence: u64,
    mark: Mark,
}

/// The slots of a database in which nothing is promised yet.
pub fn blank() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for sequence in [1, 2] {
        let place = place(sequence);
        bytes[place..place + SLOT_BYTES].copy_from_slice(&Mark::default().encode(sequence as u64));
    }
    bytes
}

fn place(sequence: usize) -> usize {
    sequence % 2 * SLOT_BYTES
}

impl MarkFile {
    /// Reads it. `InvalidData` when no slot is intact.
    pub fn open(slots: Box<dyn Slots>) -> io::Result<Self> {
        let bytes = slots.read()?;
        let newest = bytes.chunks(SLOT_BYTES).filter_map(Mark::decode).max_by_key(|(sequence, _)| *sequence);
        let (sequence, mark) = newest.ok_or_else(|| damaged("no intact slot in the mark"))?;
        Ok(MarkFile { slots, sequence, mark })
    }

    /// What it says now.
    pub fn get(&self) -> Mark {
        self.mark
    }

    /// Writes a new value; durable at the latest when the system writes it back, or by [`MarkFile::sync`].
    pub fn set(&mut self, mark: Mark) -> io::Result<()> {
        self.sequence += 1;
        self.slots.write_at(&mark.encode(self.sequence), place(self.sequence as usize) as u64)?;
        self.mark = mark;
        Ok(())
    }

    /// Makes the newest value durable.
    pub fn sync(&self) -> io::Result<()> {
        self.slots.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_older_value() {
        let folder = tempfile::tempdir().expect("tempdir");
        let open = || -> File {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(folder.path().join("mark")).expect("open")
        };
        open().write_all_at(&blank(), 0).expect("write");
        let read = || MarkFile::open(Box::new(open()));
        let mut file = read().expect("blank");
        assert_eq!(file.get(), Mark::default());
        let older = Mark { last: Some((3, 7)), vote: Some((4, 2, false)) };
        let newer = Mark { last: Some((4, 0)), vote: Some((4, 2, true)) };
        file.set(older).expect("set");
        file.set(newer).expect("set");
        assert_eq!(read().expect("open").get(), newer);

        let torn = place(file.sequence as usize) as u64 + 20;
        open().write_all_at(&[0xff; 4], torn).expect("tear");
        assert_eq!(read().expect("open").get(), older);

        open().write_all_at(&[0xff; BYTES], 0).expect("tear both");
        assert_eq!(read().err().map(|e| e.kind()), Some(io::ErrorKind::InvalidData));
    }
}
