//! The files of a source, and positions over them.

use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use riverrun_engine::{Error, Result};

use super::config::{Config, Format, io_error};

/// A file of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    pub path: PathBuf,
    /// Bytes, or rows of a Parquet file, when it was listed.
    pub size: i64,
    /// The position of its start: the size of all files before.
    pub start: i64,
}

impl SourceFile {
    /// The position behind its end.
    pub fn end(&self) -> i64 {
        self.start + self.size
    }
}

/// The position behind the last of these files.
pub(super) fn end(files: &[SourceFile]) -> i64 {
    files.last().map_or(0, SourceFile::end)
}

/// The files of a source in order of their names. Names that start with `.` or `_` are somebody's unfinished work.
pub(super) fn list(config: &Config) -> Result<Vec<SourceFile>> {
    let mut start = 0;
    let mut files = Vec::new();
    for path in paths(config)? {
        let size = size(&path, config.format)?;
        files.push(SourceFile { path, size, start });
        start += size;
    }
    Ok(files)
}

fn paths(config: &Config) -> Result<Vec<PathBuf>> {
    let path = &config.path;
    let text = path.to_string_lossy();
    let mut found = if path.is_file() {
        vec![path.clone()]
    } else if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|e| io_error("cannot read folder", path, &e))?;
        let paths = entries.map(|entry| entry.map(|e| e.path()));
        paths.collect::<Result<Vec<_>, _>>().map_err(|e| io_error("cannot read folder", path, &e))?
    } else if text.contains(['*', '?', '[']) {
        let matches = glob::glob(&text).map_err(|e| Error::invalid(format!("option 'path': '{text}' is no glob: {e}")))?;
        matches.collect::<Result<Vec<_>, _>>().map_err(|e| io_error("cannot read", e.path(), e.error()))?
    } else {
        return Err(Error::permanent(format!("there is no file or folder '{text}'"))
            .hint("check the option 'path'; it is relative to where the program runs"));
    };
    found.retain(|p| p.is_file() && !is_hidden(p));
    found.sort();
    if found.is_empty() && !config.watch {
        return Err(Error::permanent(format!("no file matches '{text}'")).hint("check the option 'path', or set watch = 'true'"));
    }
    Ok(found)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(['.', '_']))
}

fn size(path: &Path, format: Format) -> Result<i64> {
    if format == Format::Parquet {
        return Ok(open_parquet(path)?.metadata().file_metadata().num_rows());
    }
    let metadata = std::fs::metadata(path).map_err(|e| io_error("cannot read", path, &e))?;
    i64::try_from(metadata.len()).map_err(|_| Error::permanent(format!("{} is too large", path.display())))
}

/// Opens a Parquet file as far as its footer.
pub(super) fn open_parquet(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>> {
    let file = std::fs::File::open(path).map_err(|e| io_error("cannot open", path, &e))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|e| Error::permanent(format!("{} is not a readable Parquet file: {e}", path.display())))
}

/// Checks that what was listed before is still where it was: only then do positions keep their meaning.
pub(super) fn check_unmoved(before: &[SourceFile], now: &[SourceFile]) -> Result<()> {
    for (i, old) in before.iter().enumerate() {
        let last = i + 1 == before.len();
        match now.get(i) {
            Some(new) if new.path == old.path && (new.size == old.size || (last && new.size > old.size)) => {}
            Some(new) if new.path == old.path => {
                let what = format!("{} changed after it was read", old.path.display());
                return Err(Error::permanent(what).hint("only the last file of a watched path may grow"));
            }
            Some(new) if new.path < old.path => {
                let what = format!("{} appeared before {}, which was read", new.path.display(), old.path.display());
                return Err(Error::permanent(what).hint("names of new files must sort behind those that are there"));
            }
            _ => {
                let what = format!("{} is gone, though positions count it", old.path.display());
                return Err(Error::permanent(what).hint("keep files that were read, or start anew"));
            }
        }
    }
    Ok(())
}
