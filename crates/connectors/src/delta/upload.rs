//! Putting data files: a small one at once, a large one in parts, of which only those that failed are sent again.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _, Result};

/// Bytes of a part; a file up to this size is sent at once.
const PART: usize = 8 << 20;
/// Parts that are sent at the same time.
const AT_ONCE: usize = 4;

/// Puts a file. Nothing is seen of it before it is whole.
pub(super) async fn put(store: &dyn ObjectStore, path: &Path, bytes: &Bytes) -> Result<()> {
    put_in_parts(store, path, bytes, PART).await
}

async fn put_in_parts(store: &dyn ObjectStore, path: &Path, bytes: &Bytes, part: usize) -> Result<()> {
    if bytes.len() <= part {
        return store.put(path, bytes.clone().into()).await.map(drop);
    }
    let mut upload = store.put_multipart(path).await?;
    let sent = send(upload.as_mut(), bytes, part).await;
    if sent.is_err() {
        // What was sent costs money until it is taken back.
        let _ = upload.abort().await;
    }
    sent
}

async fn send(upload: &mut dyn MultipartUpload, bytes: &Bytes, part: usize) -> Result<()> {
    let starts = (0..bytes.len()).step_by(part);
    let parts: Vec<_> = starts.map(|start| upload.put_part(bytes.slice(start..bytes.len().min(start + part)).into())).collect();
    stream::iter(parts).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    upload.complete().await.map(drop)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_file_is_whole_however_it_is_cut() {
        let store = InMemory::new();
        let bytes: Bytes = (0..100u8).collect::<Vec<_>>().into();
        for part in [1, 3, 50, 99, 100, 101] {
            let path = Path::from(format!("{part}"));
            put_in_parts(&store, &path, &bytes, part).await.unwrap();
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes, "in parts of {part}");
        }
    }
}
