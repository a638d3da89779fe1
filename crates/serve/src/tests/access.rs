//! Who is answered: tokens, names of the host, pages of other sites; and what no request can do.

use super::*;

const TOKEN: &str = "0123456789abcdef";

#[tokio::test]
async fn with_a_token_only_who_shows_it_is_answered() {
    let server = server(Some(TOKEN)).await;
    let base = format!("http://{}", server.address());
    let http = reqwest::Client::new();
    for path in ["/stats", "/metrics", "/sql", "/api/v1/pipeline", "/api/v1/openapi.json", "/", "/nowhere"] {
        let asked = http.get(format!("{base}{path}"));
        for wrong in [
            asked.try_clone().unwrap(),
            asked.try_clone().unwrap().bearer_auth("0123456789abcdeF"),
            asked.try_clone().unwrap().basic_auth("anyone", Some("")),
            asked.try_clone().unwrap().header("authorization", TOKEN),
            asked.try_clone().unwrap().header("authorization", "Basic !!!"),
        ] {
            let answer = wrong.send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path}");
            assert_eq!(answer.headers().get_all("www-authenticate").iter().count(), 2);
            assert!(!answer.text().await.unwrap().contains(TOKEN));
        }
        assert_ne!(asked.try_clone().unwrap().bearer_auth(TOKEN).send().await.unwrap().status(), 401, "{path}");
        assert_ne!(asked.basic_auth("anyone", Some(TOKEN)).send().await.unwrap().status(), 401, "{path}");
    }
    // Orchestrators have none: they learn the status, and no more.
    let answer = http.get(format!("{base}/readyz")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.json::<Status>().await.unwrap().problems, Vec::<String>::new());
    let answer = http.get(format!("{base}/readyz")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(answer.json::<Status>().await.unwrap().problems.len(), 1);

    let running = Running { address: server.address().to_string(), pid: 1, pipeline: "p".into() };
    let client = Client::new(&running);
    let refused = client.stats().await.unwrap_err();
    assert!(!refused.is_transient() && refused.to_string().contains("RIVERRUN_TOKEN"), "{refused}");
    assert_eq!(client.with_token(Some(Secret::new(TOKEN).unwrap())).stats().await.unwrap().lag, 9);
}

#[tokio::test]
async fn on_loopback_only_names_of_loopback_are_answered() {
    let server = server(None).await;
    let url = format!("http://{}/api/v1/pipeline", server.address());
    let http = reqwest::Client::new();
    for (host, status) in [("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:80", 200), ("rebound.example", 403), ("", 403)] {
        let answer = http.get(&url).header("host", host).send().await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn a_page_of_another_site_and_a_form_change_nothing() {
    let server = server(None).await;
    let url = format!("http://{}/api/v1/pipeline/stop", server.address());
    let own = format!("http://{}", server.address());
    let http = reqwest::Client::new();
    let json = |request: reqwest::RequestBuilder| request.header("content-type", "application/json; charset=utf-8").body("{}");
    for (request, status) in [
        // The pipeline of the test is starting.
        (json(http.post(&url)), 503),
        (json(http.post(&url)).header("origin", &own), 503),
        (json(http.post(&url)).header("origin", "https://evil.example"), 403),
        (json(http.post(&url)).header("origin", "null"), 403),
        (http.post(&url).body("a=b").header("content-type", "application/x-www-form-urlencoded"), 415),
        (http.post(&url).body("{}").header("content-type", "text/plain"), 415),
        (http.post(&url), 415),
        (http.get(&url), 405),
        (json(http.put(&url)), 405),
        (json(http.delete(&url)), 405),
    ] {
        let told = format!("{request:?}");
        assert_eq!(request.send().await.unwrap().status(), status, "{told}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_takes_too_long_is_refused_and_the_rest_goes_on() {
    let server = server(None).await;
    let url = format!("http://{}/api/v1/sql", server.address());
    let http = reqwest::Client::new();
    let ask = async |query: &str| {
        let answer = http.post(&url).json(&serde_json::json!({ "query": query })).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
    };
    let (status, answer) = ask("SELECT 7 AS n").await;
    assert_eq!((status, &answer["rows"], &answer["truncated"]), (200, &serde_json::json!([{"n": 7}]), &false.into()));
    assert_eq!(ask("SELECT * FROM nowhere").await.0, 400);
    assert_eq!(ask(&"x".repeat(100_000)).await.0, 413);
    let (status, answer) = ask("for ever").await;
    assert_eq!(status, 408);
    assert!(answer["error"].as_str().unwrap().contains("took longer"), "{answer}");
    let (status, answer) = ask("panic").await;
    assert_eq!(status, 500);
    assert!(answer["error"].as_str().unwrap().contains("please report"), "{answer}");
    assert_eq!(ask("SELECT 7 AS n").await.0, 200, "it goes on");

    let wrong = http.post(&url).json(&serde_json::json!({ "query": "SELECT 1", "limt": 3 })).send().await.unwrap();
    assert_eq!(wrong.status(), 422);
    let arrow =
        http.post(&url).header("accept", crate::api::ARROW).json(&serde_json::json!({"query": "SELECT 7 AS n", "limit": 0}));
    let arrow = arrow.send().await.unwrap();
    assert_eq!(
        (&arrow.headers()["content-type"], &arrow.headers()["riverrun-truncated"]),
        (&crate::api::ARROW.parse().unwrap(), &"true".parse().unwrap())
    );
}
