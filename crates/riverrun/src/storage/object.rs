//! [`Storage`] over the client library `object_store`: one implementation for directories and object stores.
//!
//! Invariants:
//! - What was put is durable on return. In a directory that is for us to do: the library writes under a passing name and links
//!   it, and syncs nothing; so file and folder are synced behind it. A power cut before that may leave a torn file under its
//!   name, which its checksum tells.
//! - A store may answer a put with "exists" because an earlier try of it got through: what is there is compared.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use riverrun_engine::checkpoint::{Put, Storage, Stored};
use riverrun_engine::{Error, Result};
use tokio::runtime::{Builder, Runtime};

use super::Location;
use super::failure::failed;

/// Files that are read at once.
const READS: usize = 8;

/// Files in a store.
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    /// What all names begin with: empty, or ends with `/`.
    prefix: String,
    location: String,
    /// Where files lie, if it is a directory.
    directory: Option<PathBuf>,
    runtime: Option<Runtime>,
}

impl ObjectStorage {
    /// In a directory, which is created if it is missing.
    pub fn directory(path: &Path) -> Result<Self> {
        let failed = |e: &dyn fmt::Display| Error::permanent(format!("directory {} cannot be used: {e}", path.display()));
        std::fs::create_dir_all(path).map_err(|e| failed(&e))?;
        let store = LocalFileSystem::new_with_prefix(path).map_err(|e| failed(&e))?;
        let mut storage = Self::new(Arc::new(store), "", &Location::Directory(path.to_owned()))?;
        storage.directory = Some(path.to_owned());
        Ok(storage)
    }

    /// In a store, under a prefix.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, location: &Location) -> Result<Self> {
        // A thread of its own, so that connections are looked after between calls, and calls may come from anywhere.
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("storage").enable_all().build();
        let runtime = runtime.map_err(|e| Error::permanent(format!("no thread could be started: {e}")))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store, prefix, location: location.to_string(), directory: None, runtime: Some(runtime) })
    }

    /// Runs a call of the library and waits, wherever we are.
    fn wait<T: Send + 'static>(&self, call: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let (done, outcome) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.runtime {
            // Nobody may wait any more when it is done.
            runtime.spawn(async move { drop(done.send(call.await)) });
        }
        outcome.recv().map_err(|_| Error::permanent(format!("{self}: the client library panicked")))
    }

    fn name(&self, name: &str) -> Name {
        Name::from(format!("{}{name}", self.prefix))
    }

    fn failed(&self, what: &str, name: &str, error: &object_store::Error) -> Error {
        failed(&format!("{self}/{name} cannot be {what}"), error)
    }

    /// Makes a file of a directory survive a power cut.
    fn sync(&self, name: &str) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let file = directory.join(name);
        let folders = file.ancestors().skip(1).take_while(|folder| folder.starts_with(directory));
        let synced = std::iter::once(file.as_path()).chain(folders).try_for_each(|path| File::open(path)?.sync_all());
        synced.map_err(|e| Error::transient(format!("{self}/{name} cannot be synced: {e}")))
    }
}

async fn read(store: Arc<dyn ObjectStore>, name: Name) -> object_store::Result<Bytes> {
    store.get(&name).await?.bytes().await
}

impl Storage for ObjectStorage {
    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match self.wait(read(self.store.clone(), self.name(name)))? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", name, &error)),
        }
    }

    fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>> {
        let reads: Vec<_> = names.iter().map(|name| read(self.store.clone(), self.name(name)).boxed()).collect();
        let read = self.wait(stream::iter(reads).buffered(READS).collect::<Vec<_>>())?;
        let taken = read.into_iter().zip(names).map(|(outcome, name)| match outcome {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", name, &error)),
        });
        taken.collect()
    }

    fn put_if_absent(&self, name: &str, bytes: Bytes) -> Result<Put> {
        let (store, path, payload) = (self.store.clone(), self.name(name), bytes.clone().into());
        let options = PutOptions::from(PutMode::Create);
        let put = match self.wait(async move { store.put_opts(&path, payload, options).await })? {
            Ok(_) => Put::Stored,
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => match self.get(name)? {
                Some(held) if held == bytes => Put::Stored,
                Some(_) => Put::Taken,
                None => return Err(Error::transient(format!("{self}/{name} was there a moment ago, and is gone"))),
            },
            Err(error) => return Err(self.failed("written", name, &error)),
        };
        self.sync(name)?;
        Ok(put)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stored>> {
        let (store, path) = (self.store.clone(), self.name(prefix));
        let listed = self.wait(async move { store.list(Some(&path)).try_collect::<Vec<_>>().await })?;
        let listed = match listed {
            Ok(listed) => listed,
            // A folder that nothing was written to yet.
            Err(object_store::Error::NotFound { .. }) if self.directory.is_some() => Vec::new(),
            Err(error) => return Err(self.failed("listed", prefix, &error)),
        };
        let own = |meta: object_store::ObjectMeta| {
            let name = meta.location.as_ref().strip_prefix(&self.prefix)?.to_owned();
            name.starts_with(prefix).then_some(Stored { name, bytes: meta.size })
        };
        let mut files: Vec<Stored> = listed.into_iter().filter_map(own).collect();
        files.sort_unstable();
        Ok(files)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let (store, path) = (self.store.clone(), self.name(name));
        match self.wait(async move { store.delete(&path).await })? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("removed", name, &error)),
        }
    }
}

impl fmt::Display for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

impl fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectStorage({})", self.location)
    }
}

impl Drop for ObjectStorage {
    fn drop(&mut self) {
        // An ordinary drop would panic inside an async task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
