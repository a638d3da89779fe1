//! Blocks: many records of one partition in one value of the store, since one append per record costs several times as much.
//!
//! Layout, version 1. Fixed head, little-endian: `version u8 = 1 | records u32 | base offset i64 | base time i64`. Then per
//! record, in order of offset without gaps, all numbers LEB128 varints: `time - base time` (zigzag), key, value (each
//! its length + 1 and its bytes; 0 = NULL), number of headers, per header its name (length and bytes) and value (as above).

use std::ops::Range;

use riverrun_engine::time::Micros;
use riverrun_engine::{Error, Result};

const VERSION: u8 = 1;
const HEAD: usize = 21;
const BASE_OFFSET: Range<usize> = 5..13;

/// A record as it stands in a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record<'a> {
    /// Its place in the partition.
    pub offset: i64,
    /// The record's own time.
    pub timestamp: Micros,
    /// What it is partitioned by.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` = a tombstone: what the key named is gone.
    pub value: Option<&'a [u8]>,
    /// Headers.
    pub headers: Headers<'a>,
}

/// The headers of a record: (name, value) pairs, decoded on demand.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Headers<'a> {
    count: u64,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut bytes = Bytes { rest: self.bytes };
        // Checked when the record was read.
        (0..self.count).map_while(move |_| Some((std::str::from_utf8(bytes.slice()?).ok()?, bytes.nullable()?)))
    }
}

/// Collects records of one partition into a block. The offset of the first one is set when it is known.
#[derive(Debug)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    base_time: Micros,
    newest: Micros,
    records: u32,
}

impl BlockBuilder {
    /// An empty block whose times are kept relative to `base_time`.
    pub(super) fn new(base_time: Micros) -> Self {
        let mut bytes = Vec::with_capacity(4096);
        bytes.push(VERSION);
        bytes.resize(HEAD - 8, 0);
        bytes.extend_from_slice(&base_time.to_le_bytes());
        Self { bytes, base_time, newest: Micros::MIN, records: 0 }
    }

    /// Adds a record behind those that are there.
    pub(super) fn push(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Micros,
    ) {
        let relative = timestamp.wrapping_sub(self.base_time);
        put_varint(&mut self.bytes, ((relative << 1) ^ (relative >> 63)) as u64);
        put_nullable(&mut self.bytes, key);
        put_nullable(&mut self.bytes, value);
        put_varint(&mut self.bytes, headers.len() as u64);
        for (name, value) in headers {
            put_varint(&mut self.bytes, name.len() as u64);
            self.bytes.extend_from_slice(name.as_bytes());
            put_nullable(&mut self.bytes, *value);
        }
        self.newest = self.newest.max(timestamp);
        self.records += 1;
    }

    pub(super) fn records(&self) -> i64 {
        i64::from(self.records)
    }

    pub(super) fn newest(&self) -> Micros {
        self.newest
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The block's bytes with its first record at `base_offset`. May be asked again with another offset.
    pub(super) fn bytes_at(&mut self, base_offset: i64) -> &[u8] {
        self.bytes[1..5].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[BASE_OFFSET].copy_from_slice(&base_offset.to_le_bytes());
        &self.bytes
    }
}

/// A place within the bytes of a block: reads its records one by one, and can be kept beside the bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    at: usize,
    next: i64,
    left: u32,
    base_time: Micros,
}

impl Cursor {
    /// Stands at the first record of `block`.
    pub(super) fn new(block: &[u8]) -> Result<Self> {
        let number = |range: Range<usize>| block.get(range).and_then(|b| b.try_into().ok()).map(i64::from_le_bytes);
        match (block.first(), block.get(1..5).and_then(|b| b.try_into().ok()), number(BASE_OFFSET), number(13..HEAD)) {
            (Some(&VERSION), Some(left), Some(next), Some(base_time)) => {
                Ok(Self { at: HEAD, next, left: u32::from_le_bytes(left), base_time })
            }
            (Some(version), ..) if *version != VERSION => {
                Err(Error::permanent(format!("the log holds a block of version {version}; this program reads version {VERSION}"))
                    .hint("use the program that wrote it, or a newer one"))
            }
            _ => Err(damaged()),
        }
    }

    /// The offset of the record that [`read`](Self::read) gives next.
    pub(super) fn next_offset(&self) -> i64 {
        self.next
    }

    /// The next record of `block`, the bytes that this cursor was made for. `None` at the end.
    pub(super) fn read<'a>(&mut self, block: &'a [u8]) -> Result<Option<Record<'a>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut bytes = Bytes { rest: block.get(self.at..).unwrap_or_default() };
        let record = read_record(&mut bytes, self.base_time, self.next).ok_or_else(damaged)?;
        self.at = block.len() - bytes.rest.len();
        self.next += 1;
        self.left -= 1;
        Ok(Some(record))
    }
}

fn damaged() -> Error {
    Error::permanent("the log is damaged: a block ends within a record")
}

fn read_record<'a>(bytes: &mut Bytes<'a>, base_time: Micros, offset: i64) -> Option<Record<'a>> {
    let zigzag = bytes.varint()?;
    let relative = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    let (key, value, count) = (bytes.nullable()?, bytes.nullable()?, bytes.varint()?);
    let headers = bytes.rest;
    for _ in 0..count {
        std::str::from_utf8(bytes.slice()?).ok()?;
        bytes.nullable()?;
    }
    let headers = Headers { count, bytes: &headers[..headers.len() - bytes.rest.len()] };
    Some(Record { offset, timestamp: base_time.wrapping_add(relative), key, value, headers })
}

/// Bytes that are read from the front.
struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = self.varint()?;
        self.take(length)
    }

    fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match self.varint()? {
            0 => Some(None),
            length => self.take(length - 1).map(Some),
        }
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_nullable(bytes: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => bytes.push(0),
        Some(value) => {
            put_varint(bytes, value.len() as u64 + 1);
            bytes.extend_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>, Micros);

    fn built(records: &[Owned], base_offset: i64) -> Vec<u8> {
        let mut block = BlockBuilder::new(records.first().map_or(0, |r| r.3));
        for (key, value, headers, time) in records {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
            block.push(key.as_deref(), value.as_deref(), &headers, *time);
        }
        block.bytes_at(base_offset).to_vec()
    }

    proptest! {
        #[test]
        fn a_block_gives_back_what_went_in(
            records in prop::collection::vec(
                (any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>(), prop::collection::vec(("[a-z]{0,9}", any::<Option<Vec<u8>>>()), 0..3), any::<i64>()),
                0..20,
            ),
            base in 0i64..1 << 40,
        ) {
            let block = built(&records, base);
            let mut cursor = Cursor::new(&block).unwrap();
            for (i, (key, value, headers, time)) in records.iter().enumerate() {
                let record = cursor.read(&block).unwrap().unwrap();
                prop_assert_eq!(record.offset, base + i as i64);
                prop_assert_eq!((record.key, record.value, record.timestamp), (key.as_deref(), value.as_deref(), *time));
                let read: Vec<_> = record.headers.iter().map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect();
                prop_assert_eq!(&read, headers);
            }
            prop_assert!(cursor.read(&block).unwrap().is_none());
        }

        #[test]
        fn a_cut_block_is_an_error_and_never_a_panic(cut in 0usize..60) {
            let block = built(&[(Some(b"key".to_vec()), Some(vec![7; 40]), vec![("h".into(), None)], 5)], 0);
            let cut = &block[..cut.min(block.len() - 1)];
            let read = Cursor::new(cut).and_then(|mut c| c.read(cut).map(|_| ()));
            prop_assert!(read.unwrap_err().message().contains("damaged"));
        }
    }

    #[test]
    fn a_block_of_another_version_is_refused_by_its_number() {
        let mut block = built(&[(None, None, vec![], 0)], 0);
        block[0] = 9;
        assert!(Cursor::new(&block).unwrap_err().message().contains("version 9"));
    }
}
