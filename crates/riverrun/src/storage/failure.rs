//! What a failed call of the client library means. It has kinds for few of the answers of stores; the others are known by the
//! code in the store's XML, which also says more briefly what is wrong.

use object_store::Error as Failure;
use riverrun_engine::Error;

const CREDENTIALS: &str = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and what they may do in the bucket";
const BUCKET: &str = "create the bucket, or name another checkpoint.location";

/// The error of a call; `message` says what could not be done.
pub fn failed(message: &str, failure: &Failure) -> Error {
    let text = failure.to_string();
    let code = between(&text, "<Code>", "</Code>");
    let told = match (code, between(&text, "<Message>", "</Message>")) {
        (Some(code), Some(more)) => format!("{message}: {code}: {more}"),
        _ => format!("{message}: {text}"),
    };
    match (failure, code) {
        (Failure::PermissionDenied { .. } | Failure::Unauthenticated { .. }, _)
        | (_, Some("AccessDenied" | "SignatureDoesNotMatch" | "InvalidAccessKeyId")) => Error::permanent(told).hint(CREDENTIALS),
        // A file that is missing is no error.
        (Failure::NotFound { .. }, _) | (_, Some("NoSuchBucket" | "InvalidBucketName")) => Error::permanent(told).hint(BUCKET),
        (Failure::InvalidPath { .. } | Failure::NotSupported { .. } | Failure::NotImplemented { .. }, _) => {
            Error::permanent(told)
        }
        // The place where Amazon's machines ask for credentials.
        _ if text.contains("169.254.169.254") => Error::transient(told).hint(CREDENTIALS),
        _ => Error::transient(told),
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(found, _)| found)
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
