//! Whether a bad record would become a row now: after the script was mended, or the schema is there.

use std::time::Duration;

use riverrun_engine::connect::Context;
use riverrun_engine::dead_letter::DeadLetter;
use riverrun_engine::source::BadRecord;
use riverrun_engine::table::Table;
use riverrun_engine::time::{Clock, Micros, SystemClock};
use riverrun_engine::{Error, Result};

use super::{Decoder, Decoding, Header, RawRecord};

/// How long to wait before it is asked again whether a schema is there.
const AGAIN: Duration = Duration::from_millis(20);

/// Decodes records of one table, one by one, as its source does.
pub struct Judge {
    decoder: Decoder,
}

impl Judge {
    /// Of a table. Asks nobody yet.
    ///
    /// # Errors
    /// What was kept of the table's records does not say all that decoding needs.
    pub fn of(table: &Table, context: &Context) -> Result<Self> {
        let is = |name: &str, value: &str| table.options.get(name).is_some_and(|given| given.trim().eq_ignore_ascii_case(value));
        let beyond_records = if is("format", "parquet") {
            Some("rows of Parquet files are no records")
        } else if is("connector", "filesystem") && is("format", "csv") && !is("header", "false") {
            Some("a line of CSV does not say its columns, the header of its file does")
        } else {
            None
        };
        if let Some(why) = beyond_records {
            let error = Error::invalid(format!("dead letters of {} cannot be given again: {why}", table.name));
            return Err(error.hint("mend the files and let the pipeline read them anew; dead-letters list shows what was bad"));
        }
        Ok(Self { decoder: Decoding::of(table, context)?.decoder(table, "", 0)? })
    }

    /// What is wrong with a record; `None`: it would become a row.
    ///
    /// # Errors
    /// Nobody can say: the schema registry cannot be reached.
    pub fn judge(&mut self, letter: &DeadLetter, now: Micros) -> Result<Option<BadRecord>> {
        while !self.decoder.ready(letter.payload.as_deref())? {
            SystemClock.sleep(AGAIN);
        }
        let headers: Vec<Header<'_>> = letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        self.decoder.push(&RawRecord {
            offset: letter.offset,
            timestamp: letter.record_time,
            key: letter.key.as_deref(),
            payload: letter.payload.as_deref(),
            headers: &headers,
        })?;
        Ok(self.decoder.finish(letter.offset + 1)?.into_fetch(now)?.bad.pop())
    }
}
