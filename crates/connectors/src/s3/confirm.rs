//! A put if absent that tells "exists" only where somebody else's object exists.
//!
//! The client library repeats a put whose answer was an error of the server, which may have carried it out all the same; the
//! store then answers that the object exists. So what is there is compared with what was put.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A store, with puts that are confirmed.
#[derive(Debug)]
pub(crate) struct Confirming<S>(pub S);

impl<S: ObjectStore> Confirming<S> {
    /// Whether this is what is there.
    async fn holds(&self, location: &Path, payload: &PutPayload) -> Result<Option<PutResult>> {
        let there = match self.0.get(location).await {
            Ok(there) => there,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if there.meta.size != payload.content_length() as u64 {
            return Ok(None);
        }
        let (e_tag, version) = (there.meta.e_tag.clone(), there.meta.version.clone());
        let same = there.bytes().await? == Bytes::from(payload.clone());
        Ok(same.then_some(PutResult { e_tag, version }))
    }
}

impl<S: fmt::Display> fmt::Display for Confirming<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Confirming<S> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let if_absent = matches!(options.mode, PutMode::Create);
        match self.0.put_opts(location, payload.clone(), options).await {
            Err(error @ (Error::AlreadyExists { .. } | Error::Precondition { .. })) if if_absent => {
                self.holds(location, &payload).await?.ok_or(error)
            }
            outcome => outcome,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.0.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn only_what_somebody_else_put_exists() {
        let (store, path) = (Confirming(InMemory::new()), Path::from("a"));
        let put = async |text: &'static str| store.put_opts(&path, text.into(), PutMode::Create.into()).await;
        put("mine").await.unwrap();
        put("mine").await.unwrap();
        for other in ["your", "longer"] {
            assert!(matches!(put(other).await, Err(Error::AlreadyExists { .. })));
        }
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "mine");
    }
}
