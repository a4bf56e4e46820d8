//! How one value stands in sled: a checksum over key and content, then the content.
//!
//! The checksum covers the key too, so that a value found under another key is noticed.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest value, in bytes, that is handed to sled. A page of it holds some 16 to 20 values, whatever their size, and a
/// page of more than 128 KiB (a quarter of the segments used here) goes to a file of its own that is never synced.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Largest value of which a tree holds only a few: what is known by name, as the vote and the head of a snapshot.
const NAMED_BYTES_MAX: usize = 24 * 1024;

/// Largest content that fits into one value.
pub const CONTENT_BYTES_MAX: usize = VALUE_BYTES_MAX - CHECKSUM_BYTES;

const CHECKSUM_BYTES: usize = 4;

/// Checksum and bytes, ready to be stored under `key`.
pub fn seal(key: &[u8], content: &[u8]) -> io::Result<Vec<u8>> {
    seal_up_to(VALUE_BYTES_MAX, key, content)
}

fn seal_up_to(limit: usize, key: &[u8], content: &[u8]) -> io::Result<Vec<u8>> {
    let size = CHECKSUM_BYTES + content.len();
    if size > limit {
        let what = format!("a value of {size} bytes, {limit} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let mut value = Vec::with_capacity(size);
    value.extend_from_slice(&checksum(key, content).to_le_bytes());
    value.extend_from_slice(content);
    Ok(value)
}

/// The content of a stored value, if its checksum fits.
pub fn unseal<'a>(key: &[u8], value: &'a [u8]) -> io::Result<&'a [u8]> {
    let Some((sum, content)) = value.split_first_chunk::<CHECKSUM_BYTES>() else {
        return Err(damaged(key, "is too short"));
    };
    if u32::from_le_bytes(*sum) != checksum(key, content) {
        return Err(damaged(key, "does not fit its checksum"));
    }
    Ok(content)
}

/// Encodes a value known by name as MessagePack with named fields, then seals.
pub fn encode<T: Serialize>(key: &[u8], value: &T) -> io::Result<Vec<u8>> {
    seal_up_to(NAMED_BYTES_MAX, key, &rmp_serde::to_vec_named(value).map_err(io::Error::other)?)
}

/// Unseals, then decodes.
pub fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> io::Result<T> {
    let content = unseal(key, value)?;
    rmp_serde::from_slice(content).map_err(|error| damaged(key, &format!("cannot be decoded ({error})")))
}

fn checksum(key: &[u8], content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(content);
    hasher.finalize()
}

fn damaged(key: &[u8], what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the value of key {} {what}", name(key)))
}

/// Keys as people read them: words as they are, numbers as numbers.
fn name(key: &[u8]) -> String {
    if key.iter().all(|byte| byte.is_ascii_lowercase()) {
        return String::from_utf8_lossy(key).into_owned();
    }
    match <[u8; 8]>::try_from(key) {
        Ok(index) => format!("log index {}", u64::from_be_bytes(index)),
        Err(_) => format!("{key:02x?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_is_noticed() {
        let sealed = seal(b"vote", b"content").expect("small");
        assert_eq!(unseal(b"vote", &sealed).expect("intact"), b"content");
        assert!(unseal(b"other", &sealed).is_err(), "under another key");
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(b"vote", &flipped).is_err(), "bit {bit}");
        }
        assert!(unseal(b"vote", b"abc").is_err());
    }

    #[test]
    fn a_large_value_is_refused() {
        assert!(seal(b"k", &vec![0; VALUE_BYTES_MAX - CHECKSUM_BYTES]).is_ok());
        assert!(seal(b"k", &vec![0; VALUE_BYTES_MAX]).is_err());
    }
}
