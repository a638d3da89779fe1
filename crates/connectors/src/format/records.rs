//! Raw records, kept until their rows are known to be good.

use std::ops::Range;

use bytes::Bytes;
use riverrun_engine::source::BadRecord;
use riverrun_engine::time::Micros;

use super::RawRecord;

/// Where a header that was kept stands: name and value.
type PlacedHeader = (Range<usize>, Option<Range<usize>>);

/// Records copied into one buffer: no allocation per record.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    places: Vec<Place>,
    headers: Vec<PlacedHeader>,
}

/// One record: where its bytes stand, and its metadata.
#[derive(Debug)]
pub(super) struct Place {
    payload: Range<usize>,
    key: Option<Range<usize>>,
    headers: Range<usize>,
    pub offset: i64,
    pub timestamp: Option<Micros>,
    /// Whether it (still) has a row.
    pub good: bool,
}

impl Records {
    pub fn push(&mut self, record: &RawRecord<'_>, payload: &[u8], with_headers: bool) {
        let payload = self.copy(payload);
        let key = record.key.map(|key| self.copy(key));
        let first_header = self.headers.len();
        if with_headers {
            for (name, value) in record.headers {
                let placed = (self.copy(name.as_bytes()), value.map(|value| self.copy(value)));
                self.headers.push(placed);
            }
        }
        let headers = first_header..self.headers.len();
        self.places.push(Place { payload, key, headers, offset: record.offset, timestamp: record.timestamp, good: true });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn payload(&self, record: usize) -> &[u8] {
        &self.bytes[self.places[record].payload.clone()]
    }

    pub fn key(&self, place: &Place) -> Option<&[u8]> {
        place.key.clone().map(|range| &self.bytes[range])
    }

    /// The headers that were kept of a record.
    pub fn headers(&self, place: &Place) -> impl DoubleEndedIterator<Item = (&[u8], Option<&[u8]>)> {
        let bytes = |range: &Range<usize>| &self.bytes[range.clone()];
        self.headers[place.headers.clone()].iter().map(move |(name, value)| (bytes(name), value.as_ref().map(bytes)))
    }

    /// The records of a range that have a row, in order: row number n is the n-th of them.
    pub fn good(&self, range: Range<usize>) -> impl Iterator<Item = (usize, &Place)> {
        let first = range.start;
        self.places[range].iter().enumerate().filter(|(_, p)| p.good).map(move |(i, p)| (first + i, p))
    }

    /// The first record of a range at or past an offset; the range's end where there is none.
    pub fn first_at(&self, range: Range<usize>, offset: i64) -> usize {
        range.start + self.places[range].partition_point(|p| p.offset < offset)
    }

    /// The newest own time in a range.
    pub fn newest(&self, range: Range<usize>) -> Option<Micros> {
        self.places[range].iter().filter_map(|p| p.timestamp).max()
    }

    /// Bytes of keys and payloads in a range.
    pub fn bytes(&self, range: Range<usize>) -> usize {
        self.places[range].iter().map(|p| p.payload.len() + p.key.as_ref().map_or(0, Range::len)).sum()
    }

    /// Takes the row of a record away and says why.
    pub fn reject(&mut self, record: usize, reason: &'static str, detail: String) -> BadRecord {
        self.places[record].good = false;
        let place = &self.places[record];
        BadRecord {
            reason,
            detail,
            offset: place.offset,
            timestamp: place.timestamp,
            key: self.key(place).map(Bytes::copy_from_slice),
            payload: Bytes::copy_from_slice(self.payload(record)),
            tombstone: false,
            headers: self
                .headers(place)
                .map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.map(Bytes::copy_from_slice)))
                .collect(),
        }
    }
}
