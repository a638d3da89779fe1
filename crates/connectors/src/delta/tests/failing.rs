//! Storage in memory that fails writes when told to: before they happen, or after.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, logstore_with};
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Fault {
    None,
    /// The disk is full: nothing is written.
    Full,
    /// Data files are written, log entries are not.
    Log,
    /// Log entries are written, and reported as failed.
    LogAfter,
    /// The next log entry is written, and put again, as a client does that was told of an error of the server.
    #[cfg_attr(not(feature = "s3"), allow(dead_code))]
    Again,
}

#[derive(Debug)]
pub(super) struct Failing {
    memory: InMemory,
    fault: AtomicU8,
}

impl Failing {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { memory: InMemory::new(), fault: AtomicU8::new(Fault::None as u8) })
    }

    pub fn set(&self, fault: Fault) {
        self.fault.store(fault as u8, Ordering::SeqCst);
    }

    pub fn log(self: &Arc<Self>) -> LogStoreRef {
        let location = url::Url::parse("memory:///lake").unwrap();
        logstore_with(Arc::clone(self) as Arc<dyn ObjectStore>, &location, StorageConfig::default()).unwrap()
    }

    /// The same, with puts that are confirmed.
    #[cfg(feature = "s3")]
    pub fn confirmed_log(self: &Arc<Self>) -> LogStoreRef {
        let location = url::Url::parse("memory:///lake").unwrap();
        let store = crate::s3::Confirming(Arc::clone(self) as Arc<dyn ObjectStore>);
        logstore_with(Arc::new(store), &location, StorageConfig::default()).unwrap()
    }

    fn fails(&self, fault: Fault) -> bool {
        self.fault.load(Ordering::SeqCst) == fault as u8
    }
}

fn full() -> object_store::Error {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    object_store::Error::Generic { store: "failing", source: Box::new(source) }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("storage that fails when told to")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let is_log = location.as_ref().ends_with(".json");
        if self.fails(Fault::Full) || (is_log && self.fails(Fault::Log)) {
            return Err(full());
        }
        if is_log && self.fails(Fault::Again) {
            self.set(Fault::None);
            self.memory.put_opts(location, payload.clone(), opts.clone()).await?;
        }
        let done = self.memory.put_opts(location, payload, opts).await?;
        if is_log && self.fails(Fault::LogAfter) { Err(full()) } else { Ok(done) }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.memory.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.memory.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.memory.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.memory.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.memory.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.memory.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.memory.copy_opts(from, to, options).await
    }
}
