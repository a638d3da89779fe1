//! The page's files, held to the module's invariants. What the page shows is tested in a browser: `services/tests/test_dashboard.py`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{ASSETS, HTML, JS};

#[test]
fn every_file_of_the_page_is_served() {
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/page")).unwrap();
    let files: BTreeSet<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    let served = |path: &str| if path == "/" { "index.html".to_owned() } else { path.replace("/dashboard/", "") };
    assert_eq!(ASSETS.iter().map(|a| served(a.path)).collect::<BTreeSet<_>>(), files);
}

#[test]
fn what_the_page_asks_for_is_served_here() {
    let served: BTreeSet<_> = ASSETS.iter().map(|a| a.path).collect();
    for asset in ASSETS {
        for part in asset.text.split("from './").skip(1) {
            let file = part.split('\'').next().unwrap();
            assert!(served.contains(format!("/dashboard/{file}").as_str()), "{} imports {file}", asset.path);
        }
        for part in asset.text.split("=\"/dashboard/").skip(1) {
            let file = part.split('"').next().unwrap();
            assert!(served.contains(format!("/dashboard/{file}").as_str()), "{} names {file}", asset.path);
        }
        let hosts = asset.text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !hosts.contains("http://") && !hosts.contains("https://") && !hosts.contains("url("),
            "{} names a host",
            asset.path
        );
    }
}

#[test]
fn nothing_becomes_markup_and_no_script_stands_in_the_page() {
    for asset in ASSETS.iter().filter(|a| a.kind == JS) {
        for word in ["innerHTML =", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!asset.text.contains(word), "{} has {word}", asset.path);
        }
    }
    let page = ASSETS.iter().find(|a| a.kind == HTML).unwrap().text;
    let words: Vec<_> = page.split_whitespace().collect();
    assert!(
        !page.contains("<style") && !words.iter().any(|w| w.starts_with("style=") || (w.starts_with("on") && w.contains("="))),
        "something inline"
    );
    assert_eq!(
        page.matches("<script").count(),
        page.matches("<script type=\"module\" src=\"/dashboard/main.js\"></script>").count()
    );
}

#[test]
fn an_element_that_a_script_asks_for_is_in_the_page() {
    let page = ASSETS.iter().find(|a| a.kind == HTML).unwrap().text;
    for asset in ASSETS.iter().filter(|a| a.kind == JS) {
        for part in asset.text.split("find('").skip(1) {
            let id = part.split('\'').next().unwrap();
            assert!(page.contains(&format!("id=\"{id}\"")), "{} asks for #{id}", asset.path);
        }
    }
}

#[test]
fn metrics_that_the_page_names_are_in_the_list() {
    for asset in ASSETS.iter().filter(|a| a.kind == JS) {
        for (start, _) in asset.text.match_indices("'riverrun_").chain(asset.text.match_indices("'process_")) {
            let name = asset.text[start + 1..].split('\'').next().unwrap();
            let found = ["", "_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.strip_suffix(end).is_some_and(|n| crate::metrics::list::find(n).is_some()));
            assert!(found, "{} names the metric {name}", asset.path);
        }
    }
}
