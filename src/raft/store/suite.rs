//! openraft's own storage suite, run on this store.

use std::io;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

use super::Store;
use super::log::LogStore;
use super::sync::Fdatasync;
use crate::raft::machine::{Applied, Machine};
use crate::raft::types::Types;

struct OnDisk;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<Types>> {
        build().map_err(|error| StorageError::read(Types::err_from_error(&error)))
    }
}

fn build() -> io::Result<(TempDir, LogStore, Machine)> {
    let folder = tempfile::tempdir()?;
    let failed = |error| io::Error::other(format!("{error:?}"));
    Store::create(folder.path()).map_err(failed)?;
    let (store, _closed) = Store::open(folder.path(), Arc::new(Fdatasync), Box::new(())).map_err(failed)?;
    let machine = Machine::restore(store.clone(), Applied::new())?;
    Ok((folder, LogStore::new(store)?, machine))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_librarys_storage_suite_passes() {
    Suite::test_all(OnDisk).await.expect("suite");
}
