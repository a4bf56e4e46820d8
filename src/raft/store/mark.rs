//! The high-water mark: what was durable at the last sync, kept outside sled.
//!
//! sled takes a damaged end of its file for a torn write and silently goes on without it. That would be amnesia: a
//! forgotten vote or acknowledged entry. The mark is written after each sync (without a sync of its own), so that it
//! never runs ahead of what is durable; a database that falls behind it has lost something.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::raft::types::{LogId, Vote};

const MAGIC: u32 = 0x5152_4d31;
const SLOT_BYTES: usize = 64;
const NAME: &str = "mark";

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

/// The file that holds it: two slots written in turn, so that a torn write leaves the older one.
pub struct MarkFile {
    file: File,
    sequence: u64,
    mark: Mark,
}

impl MarkFile {
    /// Makes a new one in `folder`, durable.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(folder.join(NAME))?;
        let mut made = MarkFile { file, sequence: 0, mark: Mark::default() };
        made.set(Mark::default())?;
        made.set(Mark::default())?;
        made.file.sync_all()?;
        Ok(made)
    }

    /// Reads the one in `folder`. `InvalidData` when no slot is intact, `NotFound` when there is none.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(folder.join(NAME))?;
        let mut slots = [0; SLOT_BYTES * 2];
        file.read_exact_at(&mut slots, 0)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let newest = slots.chunks(SLOT_BYTES).filter_map(Mark::decode).max_by_key(|(sequence, _)| *sequence);
        let (sequence, mark) =
            newest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no intact slot in the mark"))?;
        Ok(MarkFile { file, sequence, mark })
    }

    /// What it says now.
    pub fn get(&self) -> Mark {
        self.mark
    }

    /// Writes a new value; durable at the latest when the system writes it back, or by [`MarkFile::sync`].
    pub fn set(&mut self, mark: Mark) -> io::Result<()> {
        self.sequence += 1;
        let place = (self.sequence % 2) * SLOT_BYTES as u64;
        self.file.write_all_at(&mark.encode(self.sequence), place)?;
        self.mark = mark;
        Ok(())
    }

    /// Makes the newest value durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_older_value() {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut file = MarkFile::create(folder.path()).expect("create");
        let older = Mark { last: Some((3, 7)), vote: Some((4, 2, false)) };
        let newer = Mark { last: Some((4, 0)), vote: Some((4, 2, true)) };
        file.set(older).expect("set");
        file.set(newer).expect("set");
        assert_eq!(MarkFile::open(folder.path()).expect("open").get(), newer);

        let torn = (file.sequence % 2) * SLOT_BYTES as u64 + 20;
        file.file.write_all_at(&[0xff; 4], torn).expect("tear");
        assert_eq!(MarkFile::open(folder.path()).expect("open").get(), older);

        file.file.write_all_at(&[0xff; SLOT_BYTES * 2], 0).expect("tear both");
        assert_eq!(MarkFile::open(folder.path()).err().map(|e| e.kind()), Some(io::ErrorKind::InvalidData));
    }
}
