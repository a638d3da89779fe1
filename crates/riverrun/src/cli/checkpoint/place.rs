//! Which checkpoints a command is about: those of a script, or of a location.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use riverrun_engine::checkpoint::{Storage, Stored, TaskFile};
use riverrun_engine::{Error, Result};

use crate::Program;
use crate::cli::SetArgs;
use crate::storage::{Location, ObjectStorage};

/// Where to look.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// The script whose checkpoints are meant.
    #[arg(conflicts_with = "location")]
    script: Option<PathBuf>,
    /// A location (path or URL) instead: what checkpoint.location says; default: checkpoints in the data directory.
    #[arg(long)]
    location: Option<String>,
    /// The pipeline, where a location has several.
    #[arg(long)]
    pipeline: Option<String>,
    #[command(flatten)]
    set: SetArgs,
}

/// A pipeline's checkpoints.
pub struct Place {
    /// The pipeline's name.
    pub pipeline: String,
    /// Its folder.
    pub location: Location,
    /// The files in it.
    pub storage: ObjectStorage,
    /// The directory of its journal, if that is known and local.
    pub journal: Option<PathBuf>,
}

impl PlaceArgs {
    /// All pipelines that are meant.
    ///
    /// # Errors
    /// There are none.
    pub fn all(&self) -> Result<Vec<Place>> {
        let variables = self.set.variables()?;
        if let Some(script) = &self.script {
            let program = Program::load(script, &variables)?;
            let location = program.location()?;
            let journal = location.directory().map_or_else(|| program.local_folder(), PathBuf::from).join("journal");
            let storage = open(&location, &program.settings.checkpoint_s3)?;
            return Ok(vec![Place { pipeline: program.context.pipeline.clone(), location, storage, journal: Some(journal) }]);
        }
        let root = match &self.location {
            Some(location) => Location::parse(location)?,
            None => Location::Directory(std::path::absolute(variables.data_dir()).map_err(not_absolute)?.join("checkpoints")),
        };
        let options = BTreeMap::new();
        let files = open(&root, &options)?.list("")?;
        // The location may be the folder of a pipeline itself.
        let own = files.iter().cloned().any(|file| TaskFile::of(file).is_some());
        let folders = if own { BTreeSet::from([None]) } else { files.iter().filter_map(pipeline_of).map(Some).collect() };
        let mut places = Vec::new();
        for folder in folders {
            let location = folder.as_ref().map_or_else(|| root.clone(), |name| root.folder(name));
            let last = || root.to_string().rsplit('/').next().map(str::to_owned);
            let pipeline = folder.or_else(last).unwrap_or_default();
            if self.pipeline.as_ref().is_none_or(|wanted| *wanted == pipeline) {
                let storage = open(&location, &options)?;
                let journal = location.directory().map(|directory| directory.join("journal"));
                places.push(Place { pipeline, location, storage, journal });
            }
        }
        match (&self.pipeline, places.is_empty()) {
            (Some(name), true) => Err(Error::invalid(format!("there are no checkpoints of {name} in {root}"))),
            (None, true) => Err(nothing(&root)),
            _ => Ok(places),
        }
    }

    /// The one pipeline that is meant.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn one(&self) -> Result<Place> {
        let mut places = self.all()?;
        match (places.pop(), places.len()) {
            (Some(place), 0) => Ok(place),
            (last, _) => {
                let names: Vec<String> = places.into_iter().chain(last).map(|place| place.pipeline).collect();
                Err(Error::invalid(format!("there are several pipelines: {}", names.join(", ")))
                    .hint("say which: --pipeline NAME"))
            }
        }
    }
}

/// Opens a location, without creating it.
fn open(location: &Location, options: &BTreeMap<String, String>) -> Result<ObjectStorage> {
    if location.directory().is_some_and(|directory| !directory.is_dir()) {
        return Err(nothing(location));
    }
    location.open(options)
}

fn nothing(location: &Location) -> Error {
    Error::invalid(format!("there are no checkpoints in {location}"))
        .hint("name the script that runs, or another place with --location")
}

fn not_absolute(error: std::io::Error) -> Error {
    Error::invalid(format!("the data directory cannot be found: {error}"))
}

/// The folder that a file of checkpoints lies in.
fn pipeline_of(file: &Stored) -> Option<String> {
    let (folder, rest) = file.name.split_once('/')?;
    TaskFile::of(Stored { name: rest.to_owned(), bytes: file.bytes }).map(|_| folder.to_owned())
}
