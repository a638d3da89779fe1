//! Connecting to a bucket.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::SpawnedReqwestConnector;
use object_store::{ObjectStore, RetryConfig};
use riverrun_engine::{Error, Result};
use tokio::runtime::{Builder, Runtime};

use super::confirm::Confirming;

/// How long one call is repeated by the client: behind it, whoever called decides when to try again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to a bucket. `options` go before the variables, by the names that the client library has for them (`endpoint`,
/// `region`, `access_key_id`, …). Does no I/O.
///
/// # Errors
/// An option is unknown, or something is missing.
pub fn connect(bucket: &str, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in options {
        let key: AmazonS3ConfigKey = name.parse().map_err(|_| {
            Error::invalid(format!("s3.{name}: there is no such option"))
                .hint("endpoint, region, access_key_id, secret_access_key, session_token, virtual_hosted_style_request")
        })?;
        builder = builder.with_config(key, value);
    }
    // Whoever writes http:// wants it.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    let retry = RetryConfig { max_retries: 5, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let network = SpawnedReqwestConnector::new(network()?.handle().clone());
    let store = builder.with_retry(retry).with_http_connector(network).build().map_err(|e| {
        Error::invalid(format!("s3://{bucket}: {e}"))
            .hint("set AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL if it is not Amazon's")
    })?;
    Ok(Arc::new(Confirming(store)))
}

/// Where all connections live, on a thread of its own: a connection belongs to the runtime that made it, and waits for ever if
/// that one is gone, or blocked by the very call that needs it.
fn network() -> Result<&'static Runtime> {
    static NETWORK: LazyLock<std::io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).thread_name("s3").enable_all().build());
    NETWORK.as_ref().map_err(|e| Error::permanent(format!("no thread could be started: {e}")))
}
