//! The API and its descriptions.

use std::collections::BTreeSet;

use super::*;

/// The paths of the API that a router has: they stand in one file.
fn routes() -> BTreeSet<String> {
    let source = include_str!("../api/mod.rs");
    let route = |rest: &str| Some(rest.split_once('"')?.0.to_owned());
    source.split(".route(\"").skip(1).filter_map(route).collect()
}

#[test]
fn every_route_is_described_for_machines_and_for_people() {
    let document = serde_json::to_value(crate::api::openapi::api()).unwrap();
    let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(described, routes());
    let page = include_str!("../../../../docs/http.md");
    for path in &described {
        assert!(page.contains(path.as_str()), "docs/http.md does not name {path}");
    }
    // What it refers to is there.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "no schema {name}");
    }
}

#[tokio::test]
async fn every_described_path_answers() {
    let server = server(None).await;
    let document = serde_json::to_value(crate::api::openapi::api()).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{table}", "numbers").replace("{sink}", "none").replace("{topic}", "alerts");
        let path = path.replace("/rows", "/rows?key=7");
        for method in methods.as_object().unwrap().keys() {
            let url = format!("http://{}{path}", server.address());
            let method: reqwest::Method = method.to_uppercase().parse().unwrap();
            let request = reqwest::Client::new().request(method, &url).header("content-type", "application/json").body("{}");
            let status = request.send().await.unwrap().status().as_u16();
            // Of the test's pipeline: it is starting; and a query is missing in {}.
            assert!(matches!(status, 200 | 422 | 503), "{url}: {status}");
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_named_and_so_is_what_is() {
    let server = server(None).await;
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{}{path}", server.address())).await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<serde_json::Value>().await.unwrap()["error"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let (status, error) = get("/api/v1/tables/nmbers/rows").await;
    assert_eq!((status, error.contains("numbers, screen")), (404, true), "{error}");
    let (status, error) = get("/api/v1/tables/screen/rows").await;
    assert_eq!((status, error.contains("console")), (400, true), "{error}");
    assert_eq!(get("/api/v1/topics/none/tail").await.0, 404);
    assert_eq!(get("/api/v1/nowhere").await.0, 404);
    assert_eq!(get("/api/v1/topics/alerts/records?partition=x").await.0, 400);
    assert_eq!(get("/progress?n=many").await.0, 400);
}

#[tokio::test]
async fn a_topic_is_followed() {
    let server = server(None).await;
    let mut answer = reqwest::get(format!("http://{}/api/v1/topics/alerts/tail?last=2", server.address())).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    while text.matches("\n\n").count() < 3 {
        text += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
    }
    let events: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(events[0], "event: state\ndata: {\"state\":\"starting\"}");
    assert!(events[1].starts_with("event: record\ndata: {\"partition\":0,\"offset\":1,"), "{}", events[1]);
    assert!(events[2].contains("\"offset\":2,"), "{}", events[2]);
}
