//! Requests that nobody should send: an answer comes, and the endpoint goes on.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn path() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("api/v1".to_owned()),
        Just("pipeline".to_owned()),
        Just("tables".to_owned()),
        Just("numbers".to_owned()),
        Just("rows?key=7&limit=".to_owned()),
        Just("topics/alerts/records?offset=".to_owned()),
        Just("sinks/none/recent?limit=".to_owned()),
        Just("..".to_owned()),
        Just("%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_owned()),
        Just("%00".to_owned()),
        Just("%ff%fe".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("99999999999999999999".to_owned()),
        "[ -~]{0,20}",
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| format!("/{}", parts.join("/")))
}

/// Sends bytes, that they are all if they are, and reads what comes until the other side closes or says no more for a moment.
async fn exchange(address: std::net::SocketAddr, bytes: &[u8], all: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may close before it has read all of it.
    let _ = stream.write_all(bytes).await;
    if all {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    answer
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_gets_an_answer_and_the_next_one_too(
        method in prop::sample::select(&["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "BREW"][..]),
        path in path(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        raw in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = server(None).await;
            let head = format!(
                "{method} {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                path.replace(' ', "%20"),
                body.len()
            );
            let answer = exchange(server.address(), &[head.as_bytes(), &body].concat(), false).await;
            assert!(answer.starts_with(b"HTTP/1.1 "), "{head}: {}", String::from_utf8_lossy(&answer));
            assert!(!answer.windows(5).any(|w| w == b"root:"), "it read a file");
            exchange(server.address(), &raw, true).await;
            assert_eq!(reqwest::get(format!("http://{}/livez", server.address())).await.unwrap().status(), 200);
        });
    }
}
