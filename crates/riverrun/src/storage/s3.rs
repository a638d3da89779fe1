//! S3 and what speaks its protocol. Credentials, region and endpoint come from the usual `AWS_*` variables; `SET
//! checkpoint.s3.NAME` goes before them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ObjectStore, RetryConfig};
use riverrun_engine::{Error, Result};

/// How long one call is repeated by the client: behind it, the next checkpoint is tried.
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to a bucket.
pub fn store(bucket: &str, options: &BTreeMap<String, String>) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in options {
        let key: AmazonS3ConfigKey = name.parse().map_err(|_| {
            Error::invalid(format!("SET checkpoint.s3.{name}: there is no such option"))
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
    let store = builder.with_retry(retry).build();
    Ok(Arc::new(store.map_err(|e| {
        Error::invalid(format!("s3://{bucket}: {e}"))
            .hint("set AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, and AWS_ENDPOINT_URL if it is not Amazon's")
    })?))
}
