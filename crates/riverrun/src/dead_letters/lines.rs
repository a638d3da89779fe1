//! Records in a file, one a line: for sources that nothing can be given to.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use riverrun_connectors::redelivery::Redelivery;
use riverrun_engine::dead_letter::DeadLetter;
use riverrun_engine::{Error, Result};

/// A file that takes records; without one, nothing does.
#[derive(Default)]
pub(super) struct Lines {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Lines {
    /// Makes a new file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).map_err(|e| {
            let error = Error::invalid(format!("{} cannot be made: {e}", path.display()));
            if e.kind() == std::io::ErrorKind::AlreadyExists { error.hint("name a file that is not there") } else { error }
        })?;
        Ok(Self { path: path.to_owned(), file: Some(BufWriter::new(file)) })
    }
}

impl Redelivery for Lines {
    fn take_over(&mut self) -> Result<()> {
        Ok(())
    }

    fn given(&mut self) -> Result<HashSet<String>> {
        Ok(HashSet::new())
    }

    fn takes(&self, letter: &DeadLetter) -> bool {
        !letter.is_cut() && letter.payload.as_ref().is_some_and(|payload| !payload.contains(&b'\n'))
    }

    fn give(&mut self, letters: &[DeadLetter]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut write = || {
            for payload in letters.iter().filter_map(|letter| letter.payload.as_ref()) {
                file.write_all(payload)?;
                file.write_all(b"\n")?;
            }
            file.flush()
        };
        write().map_err(|e| Error::permanent(format!("{} cannot be written: {e}", self.path.display())))
    }
}
