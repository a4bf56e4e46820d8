//! One snapshot, kept in chunks: `h` is the head, `c` + number + place are the chunks.
//!
//! A new snapshot's chunks are durable before the head names them, and the head is durable before the old chunks go:
//! at each moment there is one whole snapshot, or none was ever made.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::base::{Tree, damaged};
use super::{Store, record};
use crate::raft::types::SnapshotMeta;

const HEAD: &[u8] = b"h";
/// Bytes of one chunk.
const CHUNK_BYTES: usize = record::CONTENT_BYTES_MAX;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    number: u64,
    meta: SnapshotMeta,
    chunks: u32,
    bytes: u64,
    crc: u32,
}

impl Store {
    /// Makes it the snapshot of this node; durable on return. One that is not newer than what is there is not kept:
    /// building one and receiving one may overlap.
    pub async fn save_snapshot(&self, meta: &SnapshotMeta, data: &Bytes) -> io::Result<()> {
        let _one_at_a_time = self.saving.lock().await;
        let old = self.head()?;
        if old.as_ref().is_some_and(|old| old.meta.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        let number = old.as_ref().map_or(1, |head| head.number + 1);
        let mut chunks = 0;
        for chunk in data.chunks(CHUNK_BYTES) {
            let key = chunk_key(number, chunks);
            self.base.insert(Tree::Snap, &key, record::seal(&key, chunk)?)?;
            chunks += 1;
            tokio::task::yield_now().await;
        }
        self.flusher.all().await?;

        let crc = crc32fast::hash(data);
        let head = Head { number, meta: meta.clone(), chunks, bytes: data.len() as u64, crc };
        self.base.insert(Tree::Snap, HEAD, record::encode(HEAD, &head)?)?;
        self.flusher.all().await?;

        self.drop_chunks_except(number)
    }

    /// The snapshot, if one was made.
    pub fn snapshot(&self) -> io::Result<Option<(SnapshotMeta, Bytes)>> {
        let Some(head) = self.head()? else { return Ok(None) };
        let mut data = Vec::with_capacity(usize::try_from(head.bytes).unwrap_or(0));
        for place in 0..head.chunks {
            let key = chunk_key(head.number, place);
            let value = self.base.get(Tree::Snap, &key)?.ok_or_else(|| {
                damaged(format!("chunk {place} of {} of the snapshot is missing", head.chunks))
            })?;
            data.extend_from_slice(record::unseal(&key, &value)?);
        }
        if data.len() as u64 != head.bytes || crc32fast::hash(&data) != head.crc {
            return Err(damaged("the snapshot does not fit its checksum".to_owned()));
        }
        Ok(Some((head.meta, Bytes::from(data))))
    }

    /// Removes what an interrupted save left behind.
    pub(super) fn drop_stray_chunks(&self) -> io::Result<()> {
        self.drop_chunks_except(self.head()?.map_or(0, |head| head.number))
    }

    fn head(&self) -> io::Result<Option<Head>> {
        self.base.get(Tree::Snap, HEAD)?.map(|value| record::decode(HEAD, &value)).transpose()
    }

    fn drop_chunks_except(&self, number: u64) -> io::Result<()> {
        let kept = chunk_prefix(number);
        for pair in self.base.all(Tree::Snap) {
            let (key, _) = pair?;
            if key != HEAD && !key.starts_with(&kept) {
                self.base.remove(Tree::Snap, &key)?;
            }
        }
        Ok(())
    }
}

fn chunk_prefix(number: u64) -> [u8; 9] {
    let mut prefix = [b'c'; 9];
    prefix[1..].copy_from_slice(&number.to_be_bytes());
    prefix
}

fn chunk_key(number: u64, place: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[..9].copy_from_slice(&chunk_prefix(number));
    key[9..].copy_from_slice(&place.to_be_bytes());
    key
}
