//! The data directory: whose it is, that it is used once, and that it is what it was.
//!
//! ```text
//! DIR/LOCK            held by the process that uses it
//! DIR/identity.json   format, group, node id, incarnation, and which sub-directory holds the database
//! DIR/raft-XXXXXXXX/  sled's database and the high-water mark
//! ```
//!
//! `identity.json` is replaced as a whole, and only it makes a database valid: a crash while a directory is made
//! (state `creating`) leaves one that was never used, and is made again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock, statvfs};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Store, StoreError, on_sled};
use crate::raft::error::OpenError;
use crate::raft::options::Options;
use crate::raft::ports::{Directory, Disk};

/// Newest format of a data directory that this program reads and writes.
pub const FORMAT: u32 = 1;

const IDENTITY: &str = "identity.json";
const LOCK: &str = "LOCK";

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Format of everything in the directory.
    pub format: u32,
    /// Version of the program that wrote this file.
    pub version: String,
    /// The group.
    pub group: String,
    /// The node.
    pub node_id: u64,
    /// Random, chosen when the directory was made (P9).
    pub incarnation: String,
    /// Sub-directory of the database.
    pub database: String,
    /// Whether the database is whole.
    pub state: Made,
}

/// How far the making of a directory came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Made {
    /// Not yet used by anybody: may be made anew.
    Creating,
    /// In use.
    Ready,
}

/// A directory held by this process.
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl Identity {
    /// That of a directory about to be made, with a fresh incarnation.
    pub fn fresh(options: &Options) -> Self {
        let incarnation = uuid::Uuid::new_v4().simple().to_string();
        Identity {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            group: options.group.clone(),
            node_id: options.node_id,
            database: format!("raft-{}", &incarnation[..8]),
            incarnation,
            state: Made::Creating,
        }
    }
}

impl DataDir {
    /// Takes the directory, which is made if it does not exist.
    pub fn lock(options: &Options) -> Result<Self, OpenError> {
        let path = options.data_dir.clone();
        fs::create_dir_all(&path).map_err(|source| unwritable(&path, "create the directory", source))?;
        enough_room(&path, options.free_bytes_min)?;
        let name = path.join(LOCK);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name);
        let mut lock = file.map_err(|source| unwritable(&name, "create the lock file", source))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "?".to_owned() } else { holder.trim().to_owned() };
            return Err(OpenError::Locked { path, holder });
        }
        let pid = std::process::id().to_string();
        lock.set_len(0)
            .and_then(|()| lock.write_all(pid.as_bytes()))
            .map_err(|source| unwritable(&name, "write the lock file", source))?;
        Ok(DataDir { path, lock })
    }

    /// Whose it is; `None` when nobody's yet.
    pub fn identity(&self) -> Result<Option<Identity>, OpenError> {
        let name = self.path.join(IDENTITY);
        let text = match fs::read(&name) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.must_be_empty()?;
                return Ok(None);
            }
            Err(source) => return Err(unwritable(&name, "read the identity", source)),
        };
        let corrupt = |what: String| OpenError::Corrupt { path: name.clone(), what };
        let any: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| corrupt(format!("it is no JSON ({error})")))?;
        let found =
            any.get("format").and_then(serde_json::Value::as_u64).and_then(|found| u32::try_from(found).ok());
        let found = found.ok_or_else(|| corrupt("it names no format".to_owned()))?;
        if found > FORMAT {
            let version = any.get("version").and_then(|version| version.as_str()).unwrap_or("?").to_owned();
            return Err(OpenError::NewerFormat {
                path: self.path.clone(),
                found,
                supported: FORMAT,
                version,
            });
        }
        let identity = serde_json::from_value(any).map_err(|error| corrupt(error.to_string()))?;
        Ok(Some(identity))
    }

    /// Checks that it is the directory of the configured node, or of nobody.
    pub fn owned_by(&self, options: &Options) -> Result<Option<Identity>, OpenError> {
        let Some(identity) = self.identity()? else { return Ok(None) };
        let path = self.path.clone();
        if identity.group != options.group {
            let (found, configured) = (identity.group, options.group.clone());
            return Err(OpenError::OtherGroup { path, found, configured });
        }
        if identity.node_id != options.node_id {
            let (found, configured) = (identity.node_id, options.node_id);
            return Err(OpenError::OtherNode { path, found, configured });
        }
        Ok(Some(identity))
    }

    /// Makes an empty database for `identity`, which is not valid before [`DataDir::commit`].
    pub fn make_database(&self, identity: &Identity) -> Result<PathBuf, OpenError> {
        let folder = self.path.join(&identity.database);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .map_err(|source| unwritable(&folder, "remove an unused database", source))?;
        }
        fs::create_dir(&folder).map_err(|source| unwritable(&folder, "create the database", source))?;
        Store::create(&folder).map_err(|error| self.explain(&folder, error))?;
        Ok(folder)
    }

    /// Writes the identity; durable on return. This is what makes the database it names the valid one.
    pub fn commit(&self, identity: &Identity) -> Result<(), OpenError> {
        let name = self.path.join(IDENTITY);
        let draft = self.path.join(format!("{IDENTITY}.new"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(identity)?)?;
            file.sync_all()?;
            fs::rename(&draft, &name)?;
            File::open(&self.path)?.sync_all()?;
            match self.path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
                _ => Ok(()),
            }
        };
        write().map_err(|source| unwritable(&name, "write the identity", source))
    }

    /// Opens the database that `identity` names, for a short look while the directory is held.
    pub fn open_beside(
        &self,
        identity: &Identity,
        options: &Options,
    ) -> Result<(Arc<Store>, oneshot::Receiver<()>), OpenError> {
        let folder = self.path.join(&identity.database);
        Store::open(&folder, options.sync.clone(), Box::new(())).map_err(|error| self.explain(&folder, error))
    }

    fn make(&self, mut identity: Identity) -> Result<Identity, OpenError> {
        self.commit(&identity)?;
        self.make_database(&identity)?;
        identity.state = Made::Ready;
        self.commit(&identity)?;
        Ok(identity)
    }

    fn must_be_empty(&self) -> Result<(), OpenError> {
        let list = fs::read_dir(&self.path)
            .map_err(|source| unwritable(&self.path, "list the directory", source))?;
        for entry in list {
            let entry = entry.map_err(|source| unwritable(&self.path, "list the directory", source))?;
            let found = entry.file_name().to_string_lossy().into_owned();
            let draft = format!("{IDENTITY}.new");
            if found.starts_with("raft-") {
                let what = format!("{IDENTITY} is missing, but {found} is there");
                return Err(OpenError::Corrupt { path: self.path.clone(), what });
            }
            if found != LOCK && found != draft && found != "lost+found" {
                return Err(OpenError::Foreign { path: self.path.clone(), found });
            }
        }
        Ok(())
    }

    fn explain(&self, folder: &Path, error: StoreError) -> OpenError {
        explain_at(&self.path, folder, error, free_bytes(&self.path).unwrap_or(0))
    }
}

/// The data directories of this machine.
pub struct HereDisk {
    /// The one whose free space is meant.
    pub folder: PathBuf,
}

impl Disk for HereDisk {
    fn open(&self, options: &Options) -> Result<Directory, OpenError> {
        let dir = DataDir::lock(options)?;
        let identity = match dir.owned_by(options)? {
            Some(identity) if identity.state == Made::Ready => identity,
            Some(identity) => dir.make(identity)?,
            None => dir.make(Identity::fresh(options))?,
        };
        let folder = dir.path.join(&identity.database);
        // The directory stays locked as long as the database is open.
        let DataDir { path, lock } = dir;
        let found = on_sled::find(&folder, options.sync.clone(), Box::new(lock));
        let found =
            found.map_err(|error| explain_at(&path, &folder, error, free_bytes(&path).unwrap_or(0)))?;
        Ok(Directory { incarnation: identity.incarnation, found })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.folder)
    }
}

/// Why the database in `folder` was not opened.
pub fn explain(disk: &dyn Disk, options: &Options, folder: &Path, error: StoreError) -> OpenError {
    explain_at(&options.data_dir, folder, error, disk.free_bytes().unwrap_or(0))
}

fn explain_at(path: &Path, folder: &Path, error: StoreError, free: u64) -> OpenError {
    match error {
        StoreError::Corrupt(what) => OpenError::Corrupt { path: folder.to_owned(), what },
        StoreError::Io(source) if source.kind() == io::ErrorKind::StorageFull => full(path, free),
        StoreError::Io(source) => unwritable(folder, "use the database", source),
    }
}

fn enough_room(path: &Path, needed: u64) -> Result<(), OpenError> {
    let free = free_bytes(path).map_err(|source| unwritable(path, "ask for its free space", source))?;
    if free < needed {
        return Err(OpenError::DiskFull { path: path.to_owned(), free, needed });
    }
    Ok(())
}

/// Bytes that this user may still write at `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let figures = statvfs(path)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

fn full(path: &Path, free: u64) -> OpenError {
    OpenError::DiskFull { path: path.to_owned(), free, needed: 1 }
}

fn unwritable(path: &Path, attempt: &'static str, source: io::Error) -> OpenError {
    if source.kind() == io::ErrorKind::StorageFull {
        return full(path, free_bytes(path).unwrap_or(0));
    }
    OpenError::Unwritable { path: path.to_owned(), attempt, source }
}
