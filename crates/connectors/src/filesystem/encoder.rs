//! Rows into the bytes of a file.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use riverrun_engine::{Error, Result};

use super::config::{Config, Format};
use crate::format::JsonEncoder;

/// Encodes the rows of one file.
pub(super) enum FileEncoder {
    /// JSON lines: whatever was encoded is complete.
    Json(JsonEncoder),
    /// CSV lines; those at the beginning of the file bring the header.
    Csv { builder: arrow_csv::WriterBuilder, header: bool },
    /// Parquet: complete at the end of the file.
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl FileEncoder {
    /// An encoder for a new file.
    pub fn new(config: &Config, schema: &SchemaRef) -> Result<Self> {
        Ok(match config.format {
            Format::Json => Self::Json(JsonEncoder::default()),
            Format::Csv => {
                let builder = arrow_csv::WriterBuilder::new().with_delimiter(config.delimiter);
                let builder = builder.with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.6fZ".into());
                Self::Csv { builder, header: config.header }
            }
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                Self::Parquet(Box::new(
                    ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(parquet_error)?,
                ))
            }
        })
    }

    /// Encodes rows; bytes that are complete are appended to `out`. `at_start`: they are to be the first of the file.
    pub fn encode(&mut self, rows: &RecordBatch, at_start: bool, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Json(encoder) => encoder.encode_lines(rows, out),
            Self::Csv { builder, header } => {
                let header = *header && at_start && out.is_empty();
                let mut writer = builder.clone().with_header(header).build(out);
                Ok(writer.write(rows)?)
            }
            Self::Parquet(writer) => writer.write(rows).map_err(parquet_error),
        }
    }

    /// Bytes that are encoded but wait for the end of the file.
    pub fn waiting(&self) -> usize {
        match self {
            Self::Parquet(writer) => writer.in_progress_size() + writer.bytes_written(),
            _ => 0,
        }
    }

    /// The bytes that end the file.
    pub fn finish(self) -> Result<Vec<u8>> {
        match self {
            Self::Parquet(writer) => writer.into_inner().map_err(parquet_error),
            _ => Ok(Vec::new()),
        }
    }
}

fn parquet_error(error: parquet::errors::ParquetError) -> Error {
    Error::permanent(format!("Parquet: {error}"))
}
