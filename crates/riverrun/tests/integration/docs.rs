//! The pages for users are true: what they quote stands in the shipped script, and their links lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = docs.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    pages.extend(["README.md", "ARCHITECTURE.md", "services/README.md"].map(|page| root().join(page)));
    pages
}

/// The code blocks of a language, and the text without any code blocks.
fn blocks(page: &str, language: &str) -> (Vec<String>, String) {
    let (mut blocks, mut text, mut open) = (Vec::new(), String::new(), None::<(bool, String)>);
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(of)) => open = Some((of == language, String::new())),
            (None, None) => text.extend([line, "\n"]),
            (Some((wanted, block)), Some("")) => {
                if *wanted {
                    blocks.push(std::mem::take(block));
                }
                open = None;
            }
            (Some((_, block)), _) => block.extend([line, "\n"]),
        }
    }
    assert!(open.is_none(), "a code block is not closed");
    (blocks, text)
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn the_pages_for_users_of_spark_and_flink_quote_the_shipped_script() {
    let script = fs::read_to_string(root().join("pipelines/transactions.sql")).unwrap();
    for page in ["docs/from-spark.md", "docs/from-flink.md"] {
        let (quotes, _) = blocks(&fs::read_to_string(root().join(page)).unwrap(), "sql");
        assert!(quotes.len() > 8, "{page}");
        for quote in quotes {
            assert!(script.contains(&quote), "{page} quotes what is not in the script:\n{quote}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in pages() {
        let (_, text) = blocks(&fs::read_to_string(&page).unwrap(), "");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", page.display());
            if !heading.is_empty() {
                let (_, text) = blocks(&fs::read_to_string(&target).unwrap(), "");
                let found =
                    text.lines().filter(|line| line.starts_with('#')).any(|l| anchor(l.trim_start_matches('#')) == heading);
                assert!(found, "{}: {link}", page.display());
            }
        }
    }
    assert!(links > 20, "{links}");
}
