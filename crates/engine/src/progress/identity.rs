//! Who reports: the pipeline, and this run of it.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::time::Micros;

/// Which pipeline, and which run of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The pipeline, over restarts: the same for the same name and place of checkpoints. A UUID.
    pub id: String,
    /// This run: another one after every start. A UUID.
    pub run_id: String,
    /// `SET pipeline.name`.
    pub name: String,
    /// `SET pipeline.instance`, or `--instance`, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Identity {
    /// Of a run that started at `started`. Nothing is random: ids are hashes of name, place, time and process.
    pub fn new(name: &str, checkpoints: Option<&str>, started: Micros) -> Self {
        let id = uuid(&format!("{name}\0{}", checkpoints.unwrap_or_default()));
        let run_id = uuid(&format!("{id}\0{started}\0{}", std::process::id()));
        Self { id, run_id, name: name.to_owned(), instance: None }
    }
}

impl Identity {
    /// The same, of an instance that shares the pipeline with others.
    #[must_use]
    pub fn of_instance(self, instance: Option<String>) -> Self {
        Self { instance, ..self }
    }
}

/// A hash in the form of a UUID of version 8 (RFC 9562, section 5.8: bits of the application's own making).
fn uuid(text: &str) -> String {
    let half = |seed| u128::from(XxHash3_64::oneshot_with_seed(seed, text.as_bytes()));
    let hash = half(0) << 64 | half(1);
    let hash = hash & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let digits = format!("{hash:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_keeps_its_id_and_every_run_has_its_own() {
        let first = Identity::new("p", Some("/data/p"), 1);
        let second = Identity::new("p", Some("/data/p"), 2);
        assert_eq!(first.id, second.id);
        assert_ne!(first.run_id, second.run_id);
        assert_ne!(first.id, Identity::new("p", Some("/other/p"), 1).id);
        assert_ne!(first.id, Identity::new("q", Some("/data/p"), 1).id);
        let parts: Vec<usize> = first.id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(first.id.as_bytes()[14], b'8', "version 8: {}", first.id);
        assert!(b"89ab".contains(&first.id.as_bytes()[19]), "variant 2: {}", first.id);
    }
}
