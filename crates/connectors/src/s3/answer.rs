//! What a failed call means. The client library has kinds for few of the answers of stores, and those who call it for us keep
//! only its words; so the others are known by the code in the store's XML, which also says more briefly what is wrong.

/// What a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The store refuses the key, or what it may do.
    Credentials,
    /// There is no such bucket.
    Bucket,
    /// Anything else: it may pass.
    Other,
}

/// What the client library's words say, as short as the store said it, and what it is about.
pub fn answer(text: &str) -> (String, Meaning) {
    let code = between(text, "<Code>", "</Code>");
    let told = match (code, between(text, "<Message>", "</Message>")) {
        (Some(code), Some(more)) => format!("{code}: {more}"),
        _ => text.to_owned(),
    };
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let meaning = match code {
        Some("AccessDenied" | "SignatureDoesNotMatch" | "InvalidAccessKeyId" | "ExpiredToken" | "InvalidToken") => {
            Meaning::Credentials
        }
        Some("NoSuchBucket" | "InvalidBucketName") => Meaning::Bucket,
        _ if says(&["lacked the necessary privileges", "lacked valid authentication credentials"]) => Meaning::Credentials,
        _ => Meaning::Other,
    };
    (told, meaning)
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    text.split_once(begin)?.1.split_once(end).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_code_decides() {
        let denied = answer("403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message></Error>");
        assert_eq!(denied, ("SignatureDoesNotMatch: Check your key.".to_owned(), Meaning::Credentials));
        assert_eq!(answer("404: <Code>NoSuchBucket</Code><Message>no</Message>").1, Meaning::Bucket);
        assert_eq!(answer("503: <Code>SlowDown</Code><Message>Reduce your request rate.</Message>").1, Meaning::Other);
        assert_eq!(answer("error sending request").1, Meaning::Other);
    }

    #[cfg(feature = "s3")]
    #[test]
    fn without_a_code_the_client_librarys_words_decide() {
        use object_store::Error;
        let denied = Error::PermissionDenied { path: "x".to_owned(), source: "403".into() };
        assert_eq!(answer(&denied.to_string()).1, Meaning::Credentials);
        let unknown = Error::Unauthenticated { path: "x".to_owned(), source: "401".into() };
        assert_eq!(answer(&unknown.to_string()).1, Meaning::Credentials);
    }
}
