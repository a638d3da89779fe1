//! The log as it lies in a directory: topics, appends, groups.
//!
//! Invariants: an append is one atomic write of fjall (records of all its partitions and journal entries); one append at a
//! time gets offsets; a reader sees records only when they are safe. After a failed write the store is opened
//! again before the next one, and what became of the failed append is looked up, so that repeating it repeats nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fjall::PersistMode;
use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

use super::batch::{Appended, Batch, Durability};
use super::disk::Disk;
use super::keys::{self, BlockKey};
use super::topic::{Partition, Retention, Settings, Topic, check_name};
use crate::embedded::{Handles, Opened, Reopening};

/// How many partitions a topic gets where nothing else is said.
pub const DEFAULT_PARTITIONS: u32 = 10;

static OPEN: Handles<Log> = Handles::new();

/// An embedded, durable, partitioned log in a directory: the bus where there is no Kafka.
pub struct Log {
    disk: Reopening<Disk>,
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    writer: Mutex<Writer>,
}

/// What is known of appends that failed.
#[derive(Default)]
struct Writer {
    /// The batch of the last one, with the topics and places that it would have got.
    doubtful: Option<(u64, Vec<Arc<Topic>>, Vec<Appended>)>,
    /// Batches that turned out to be there although their append failed.
    found: HashMap<u64, Vec<Appended>>,
}

impl Log {
    /// The log in `directory`, which is created if it is missing. All users within this process share one.
    pub fn open(directory: &Path) -> Result<Arc<Self>> {
        OPEN.get(directory, |path| {
            let disk = Reopening::new(path, Disk::open)?;
            let topics = disk.get()?.topics().map_err(|e| e.within(path.display()))?;
            Ok(Self { disk, topics: RwLock::new(topics), writer: Mutex::default() })
        })
    }

    /// Whether a log lies in `directory`.
    pub fn exists(directory: &Path) -> bool {
        directory.join("keyspaces").is_dir()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.disk.path()
    }

    /// All topics by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// A topic, if it is there.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// A topic, made if it is missing (with [`DEFAULT_PARTITIONS`] unless told). `partitions` must be those of one that is
    /// there; `retention`, where given, replaces its retention.
    pub fn create_topic(&self, name: &str, partitions: Option<u32>, retention: Option<Retention>) -> Result<Arc<Topic>> {
        check_name(name)?;
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return self.adapt(topic, partitions, retention);
        }
        let id = topics.values().map(|t| t.id() + 1).max().unwrap_or(0);
        let settings =
            Settings { id, partitions: partitions.unwrap_or(DEFAULT_PARTITIONS), retention: retention.unwrap_or_default() };
        if settings.partitions == 0 {
            return Err(Error::invalid(format!("topic {name} needs at least one partition")));
        }
        self.keep_settings(name, &settings)?;
        tracing::info!(topic = name, partitions = settings.partitions, "created a topic");
        let partitions = (0..settings.partitions).map(|_| Partition::default()).collect();
        let topic = Arc::new(Topic::new(name, &settings, partitions));
        topics.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    fn adapt(&self, topic: &Arc<Topic>, partitions: Option<u32>, retention: Option<Retention>) -> Result<Arc<Topic>> {
        if let Some(wanted) = partitions.filter(|wanted| *wanted != topic.partitions()) {
            let have = topic.partitions();
            return Err(Error::invalid(format!(
                "topic {} has {have} partitions, not {wanted}: their number is fixed",
                topic.name()
            ))
            .hint(format!("leave the option 'partitions' out, set it to {have}, or write to another topic")));
        }
        if let Some(retention) = retention.filter(|r| *r != topic.retention()) {
            self.keep_settings(topic.name(), &Settings { retention, ..topic.settings() })?;
            topic.set_retention(retention);
        }
        Ok(Arc::clone(topic))
    }

    fn keep_settings(&self, name: &str, settings: &Settings) -> Result<()> {
        let text = serde_json::to_vec(settings).map_err(|e| Error::permanent(format!("settings of topic {name}: {e}")))?;
        self.put_meta(&[(keys::topic(name), text)])
    }

    /// Appends all of the batch in one atomic write, and empties it. `now` is for retention. After an error the batch is
    /// unchanged: append it again (the same one, so that nothing is written twice), or clear it.
    pub fn append(&self, batch: &mut Batch, now: Micros) -> Result<Vec<Appended>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.mend(&mut writer)?;
        if let Some(appended) = writer.found.remove(&batch.id()) {
            batch.clear();
            return Ok(appended);
        }
        let appended = batch.place();
        let written = match self.write(batch, &appended) {
            Ok(written) => written,
            Err(e) => {
                let topics = batch.topics.iter().map(|t| Arc::clone(&t.topic)).collect();
                writer.doubtful = Some((batch.id(), topics, appended));
                return Err(e);
            }
        };
        for (a, bytes) in appended.iter().zip(written) {
            let topic = &batch.topics[a.topic].topic;
            topic.publish(a.partition, a.base + a.records);
            if topic.retention_due(a.partition, bytes, now) {
                self.retain(topic, a.partition, now).unwrap_or_else(|e| {
                    // The append itself is safe; what is kept too long goes next time.
                    tracing::warn!(topic = topic.name(), partition = a.partition, error = %e, "cannot delete old records");
                });
            }
        }
        batch.topics.iter().filter(|t| t.partitions.iter().any(|p| !p.is_empty())).for_each(|t| t.topic.wake());
        batch.clear();
        Ok(appended)
    }

    /// Writes the batch with its records at these places. Gives the bytes of each.
    fn write(&self, batch: &mut Batch, places: &[Appended]) -> Result<Vec<u64>> {
        let disk = self.disk()?;
        let mode = match batch.durability {
            Durability::Process => PersistMode::Buffer,
            Durability::Power => PersistMode::SyncData,
        };
        let mut write = disk.database.batch().durability(Some(mode));
        let mut sizes = Vec::with_capacity(places.len());
        for place in places {
            let records = &mut batch.topics[place.topic];
            let (mut base, mut size) = (place.base, 0);
            for block in &mut records.partitions[place.partition as usize] {
                let last = base + block.records() - 1;
                let key = BlockKey { last, newest: block.newest(), bytes: block.len() as u32 };
                write.insert(&disk.blocks, key.encode(records.topic.id(), place.partition), block.bytes_at(base));
                (base, size) = (last + 1, size + block.len() as u64);
            }
            sizes.push(size);
        }
        for (key, value) in &batch.journal {
            match value {
                Some(value) => write.insert(&disk.journal, key.as_slice(), value.as_slice()),
                None => write.remove(&disk.journal, key.as_slice()),
            }
        }
        write.commit().map_err(|e| self.broke(&e))?;
        Ok(sizes)
    }

    /// Opens the store again if a write failed, and looks up whether that write happened.
    fn mend(&self, writer: &mut Writer) -> Result<()> {
        self.disk.mend()?;
        let Some((_, topics, places)) = &writer.doubtful else { return Ok(()) };
        // One atomic write: the first of its places tells for all.
        let there = match places.first() {
            Some(first) => self.disk()?.end(topics[first.topic].id(), first.partition)? > first.base,
            None => false,
        };
        if let Some((id, topics, places)) = writer.doubtful.take().filter(|_| there) {
            places.iter().for_each(|p| topics[p.topic].publish(p.partition, p.base + p.records));
            topics.iter().for_each(|t| t.wake());
            writer.found.insert(id, places);
        }
        Ok(())
    }

    /// Keeps the group's positions: it has taken all records before these offsets (partition, offset).
    pub fn commit(&self, group: &str, topic: &Topic, positions: &[(u32, i64)]) -> Result<()> {
        let entry = |(p, offset): &(u32, i64)| (keys::group(group, topic.id(), *p), keys::offset_value(*offset).to_vec());
        self.put_meta(&positions.iter().map(entry).collect::<Vec<_>>())
    }

    /// The group's position in a partition, if it ever committed one.
    pub fn committed(&self, group: &str, topic: &Topic, partition: u32) -> Result<Option<i64>> {
        let value = self.disk()?.meta.get(keys::group(group, topic.id(), partition)).map_err(|e| self.error(&e))?;
        value.map(|v| keys::parse_offset(&v)).transpose()
    }

    /// An entry of the journal.
    pub fn journal(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.disk()?.journal.get(key).map_err(|e| self.error(&e))?;
        Ok(value.map(|v| v.to_vec()))
    }

    /// All journal entries whose key begins with `prefix`, by key.
    pub fn journal_entries(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let entry = |e: fjall::Guard| e.into_inner().map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(|e| self.error(&e));
        self.disk()?.journal.prefix(prefix).map(entry).collect()
    }

    /// The offset of the first record at or past `time`; the end where there is none.
    pub fn offset_at(&self, topic: &Topic, partition: u32, time: Micros) -> Result<i64> {
        let (start, end) = (topic.start(partition), topic.end(partition));
        let disk = self.disk()?;
        for entry in disk.blocks.range(keys::blocks_from(topic.id(), partition, start)) {
            let wanted = |key: &fjall::UserKey| BlockKey::decode(key).is_ok_and(|k| k.newest >= time);
            let (_, block) = entry.into_inner_if(wanted).map_err(|e| self.error(&e))?;
            let Some(block) = block else { continue };
            let mut cursor = super::block::Cursor::new(&block)?;
            while let Some(record) = cursor.read(&block)? {
                if record.timestamp >= time && record.offset >= start {
                    return Ok(record.offset.min(end));
                }
            }
        }
        Ok(end)
    }

    fn put_meta(&self, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.mend(&mut writer)?;
        let disk = self.disk()?;
        let mut write = disk.database.batch();
        entries.iter().for_each(|(key, value)| write.insert(&disk.meta, key.as_slice(), value.as_slice()));
        write.commit().map_err(|e| self.broke(&e))
    }

    /// What fjall has open.
    pub(super) fn disk(&self) -> Result<Opened<'_, Disk>> {
        self.disk.get()
    }

    pub(super) fn error(&self, error: &fjall::Error) -> Error {
        self.disk.error(error)
    }

    pub(super) fn broke(&self, error: &fjall::Error) -> Error {
        self.disk.broke(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::NewRecord;
    use super::*;

    fn one_record(topic: &Arc<Topic>) -> Batch {
        let mut batch = Batch::new(Durability::Process);
        batch.push(topic, NewRecord { partition: Some(0), value: Some(b"x"), ..NewRecord::default() }).unwrap();
        batch
    }

    /// Makes the append of `batch` fail before or after it was written.
    fn fail(log: &Log, batch: &mut Batch, written: bool) {
        let places = batch.place();
        if written {
            log.write(batch, &places).unwrap();
        }
        let topics = batch.topics.iter().map(|t| Arc::clone(&t.topic)).collect();
        log.writer.lock().unwrap().doubtful = Some((batch.id(), topics, places));
        assert!(log.broke(&fjall::Error::Poisoned).is_transient());
    }

    #[test]
    fn an_append_that_failed_but_was_written_is_not_written_twice() {
        for written in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let log = Log::open(directory.path()).unwrap();
            let topic = log.create_topic("t", Some(1), None).unwrap();
            log.append(&mut one_record(&topic), 0).unwrap();
            let mut batch = one_record(&topic);
            fail(&log, &mut batch, written);
            assert_eq!(topic.end(0), 1, "not visible before it is known to be safe");
            let other = log.append(&mut one_record(&topic), 0).unwrap();
            let repeated = log.append(&mut batch, 0).unwrap();
            assert_eq!(topic.end(0), 3);
            assert_eq!([other[0].base, repeated[0].base], if written { [2, 1] } else { [1, 2] });
        }
    }
}
