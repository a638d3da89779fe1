//! What a failed call of the client library means.

use object_store::Error as Failure;
use riverrun_connectors::s3::{CREDENTIALS, Meaning, answer};
use riverrun_engine::Error;

const BUCKET: &str = "create the bucket, or name another checkpoint.location";

/// The error of a call; `message` says what could not be done.
pub fn failed(message: &str, failure: &Failure) -> Error {
    let text = failure.to_string();
    let (told, meaning) = answer(&text);
    let told = format!("{message}: {told}");
    match (failure, meaning) {
        (_, Meaning::Credentials) => Error::permanent(told).hint(CREDENTIALS),
        // A file that is missing is no error.
        (Failure::NotFound { .. }, _) | (_, Meaning::Bucket) => Error::permanent(told).hint(BUCKET),
        (Failure::InvalidPath { .. } | Failure::NotSupported { .. } | Failure::NotImplemented { .. }, _) => {
            Error::permanent(told)
        }
        // The place where Amazon's machines ask for credentials.
        _ if text.contains("169.254.169.254") => Error::transient(told).hint(CREDENTIALS),
        _ => Error::transient(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Error {
        failed("s3://b/x cannot be read", &Failure::Generic { store: "S3", source: text.into() })
    }

    #[test]
    fn the_stores_code_decides() {
        let denied = of("403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message></Error>");
        assert_eq!(denied.message(), "s3://b/x cannot be read: SignatureDoesNotMatch: Check your key.");
        assert!(!denied.is_transient() && denied.hint_text() == Some(CREDENTIALS));
        assert!(!of("404: <Code>NoSuchBucket</Code><Message>no</Message>").is_transient());
        assert!(of("503: <Code>SlowDown</Code><Message>Reduce your request rate.</Message>").is_transient());
        assert!(of("error sending request").is_transient());
    }
}
