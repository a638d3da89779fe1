//! Records in Avro, in the wire format of schema registries: a zero byte, the id of the writer's schema (4 bytes, big-endian),
//! the record.
//!
//! Bytes go straight into arrow columns by arrow-avro, with a decoder for each id; the table's columns are matched by name
//! and get the types that the table declares ([`columns`]). So any number of versions of a schema may be mixed in one
//! stream. What a schema cannot give is a bad record for each of its records, and for no other.

mod columns;
mod convert;
mod encode;
mod payload;
mod schema;

pub(crate) use columns::columns;
pub(crate) use encode::{AvroEncoder, schema_of};
pub(crate) use schema::Record;

pub(super) use payload::AvroPayload;

/// The first byte of a record.
const MAGIC: u8 = 0;

/// The id of a record's schema.
///
/// # Errors
/// The record does not begin with one: why.
fn schema_id(payload: &[u8]) -> Result<u32, String> {
    match payload {
        [MAGIC, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [MAGIC, ..] => Err(format!("{} bytes, too few for a schema's id", payload.len())),
        [b'{' | b'[', ..] => Err("it looks like JSON: it does not begin with a zero byte and a schema's id".into()),
        [first, ..] => Err(format!("it begins with byte {first:#04x}, not with a zero byte and a schema's id")),
        [] => Err("it is empty".into()),
    }
}

#[cfg(test)]
mod tests;
