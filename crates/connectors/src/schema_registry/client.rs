//! Questions to a registry over HTTP, and what its answers mean.
//!
//! Invariant: only the registry's own words ("there is no such schema") make a schema missing. Whatever else answers at that
//! address (a proxy, another program) is an error, never a reason to give records up.

use std::collections::BTreeSet;

use reqwest::{Certificate, Method, RequestBuilder, StatusCode, Url};
use riverrun_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::config::{Access, Config};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// As many schemas at most may one schema refer to, itself included.
const MOST_REFERENCES: usize = 100;

/// A schema, with those that it refers to, in an order in which each stands behind what it needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Schema {
    /// The schema as it was registered.
    pub text: String,
    /// What it refers to.
    #[serde(default)]
    pub references: Vec<String>,
}

/// A version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// The id of its schema.
    pub id: u32,
    /// Its number in the subject.
    pub version: u32,
    /// The schema.
    pub schema: Schema,
}

/// What a registry answers.
pub(super) enum Answer<T> {
    /// What was asked for.
    Here(T),
    /// It has no such thing, and says so.
    Missing(String),
}

/// A registry.
pub(super) struct Client {
    http: reqwest::Client,
    urls: Vec<String>,
    access: Access,
}

/// What the registry says of a schema.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    schema: String,
    #[serde(default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
    #[serde(default)]
    id: u32,
    #[serde(default)]
    version: u32,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

impl Client {
    /// A client by these options. Nothing is asked yet.
    pub fn new(config: &Config) -> Result<Self> {
        let mut http = reqwest::Client::builder().timeout(config.timeout).connect_timeout(config.timeout);
        if let Some(path) = &config.ca_location {
            let option = || format!("option 'schema_registry_ca_location': '{}'", path.display());
            let pem = std::fs::read(path).map_err(|e| Error::invalid(format!("{} cannot be read: {e}", option())))?;
            let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
            let certificates = certificates.ok_or_else(|| Error::invalid(format!("{} holds no certificate (PEM)", option())))?;
            for certificate in certificates {
                http = http.add_root_certificate(certificate);
            }
        }
        let http = http.build().map_err(|e| Error::permanent(format!("HTTP client for the schema registry: {}", causes(&e))))?;
        Ok(Self { http, urls: config.urls.clone(), access: config.access.clone() })
    }

    /// The schema of an id.
    pub async fn schema(&self, id: u32) -> Result<Answer<Schema>> {
        match self.ask::<Told>(Method::GET, &["schemas", "ids", &id.to_string()], None).await? {
            Answer::Here(told) => self.whole(told).await,
            Answer::Missing(why) => Ok(Answer::Missing(why)),
        }
    }

    /// A version of a subject; `None`: the latest.
    pub async fn version(&self, subject: &str, version: Option<u32>) -> Result<Answer<Registered>> {
        let version = version.map_or_else(|| "latest".to_owned(), |v| v.to_string());
        let told = match self.ask::<Told>(Method::GET, &["subjects", subject, "versions", &version], None).await? {
            Answer::Here(told) => told,
            Answer::Missing(why) => return Ok(Answer::Missing(why)),
        };
        let (id, version) = (told.id, told.version);
        Ok(match self.whole(told).await? {
            Answer::Here(schema) => Answer::Here(Registered { id, version, schema }),
            Answer::Missing(why) => Answer::Missing(why),
        })
    }

    /// Registers a schema under a subject, unless it is there; its id.
    ///
    /// # Errors
    /// Permanent with the registry's reason: it is incompatible with what is there.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        #[derive(Deserialize)]
        struct Id {
            id: u32,
        }
        match self.ask::<Id>(Method::POST, &["subjects", subject, "versions"], Some(json!({ "schema": schema }))).await? {
            Answer::Here(Id { id }) => Ok(id),
            Answer::Missing(why) => Err(Error::permanent(format!("subject '{subject}' takes no schema: {why}"))),
        }
    }

    /// Why a schema is not compatible with the latest one of a subject, as far as the registry says.
    pub async fn why_incompatible(&self, subject: &str, schema: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Checked {
            #[serde(default)]
            messages: Vec<Value>,
        }
        let path = ["compatibility", "subjects", subject, "versions", "latest?verbose=true"];
        match self.ask::<Checked>(Method::POST, &path, Some(json!({ "schema": schema }))).await? {
            Answer::Here(Checked { messages }) => {
                Ok(messages.iter().map(|m| m.as_str().map_or_else(|| m.to_string(), str::to_owned)).collect())
            }
            Answer::Missing(_) => Ok(Vec::new()),
        }
    }

    /// Sets the compatibility level of a subject, unless it is set.
    pub async fn set_compatibility(&self, subject: &str, level: &str) -> Result<()> {
        let path = ["config", subject];
        if let Answer::Here(now) = self.ask::<Value>(Method::GET, &path, None).await?
            && ["compatibilityLevel", "compatibility"].iter().any(|key| now[key] == level)
        {
            return Ok(());
        }
        match self.ask::<Value>(Method::PUT, &path, Some(json!({ "compatibility": level }))).await? {
            Answer::Here(_) => Ok(()),
            Answer::Missing(why) => Err(Error::permanent(format!("subject '{subject}' takes no compatibility level: {why}"))),
        }
    }

    /// A schema with all that it refers to.
    async fn whole(&self, told: Told) -> Result<Answer<Schema>> {
        if let Some(other) = told.schema_type.filter(|kind| kind != "AVRO") {
            return Ok(Answer::Missing(format!("it is a schema of type {other}, not Avro")));
        }
        let (mut references, mut seen) = (Vec::new(), BTreeSet::new());
        // Depth first: what a reference needs goes before it.
        let mut open: Vec<(Option<String>, Vec<Reference>)> = vec![(None, told.references)];
        while let Some((text, waiting)) = open.last_mut() {
            let Some(Reference { subject, version }) = waiting.pop() else {
                references.extend(text.take());
                open.pop();
                continue;
            };
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            if seen.len() > MOST_REFERENCES {
                return Ok(Answer::Missing(format!("it refers to more than {MOST_REFERENCES} schemas")));
            }
            let version = version.to_string();
            let path = ["subjects", &subject, "versions", &version];
            match self.ask::<Told>(Method::GET, &path, None).await? {
                Answer::Here(told) => open.push((Some(told.schema), told.references)),
                Answer::Missing(why) => return Ok(Answer::Missing(format!("it refers to subject '{subject}': {why}"))),
            }
        }
        Ok(Answer::Here(Schema { text: told.schema, references }))
    }

    /// Asks the registries in turn until one can be reached.
    async fn ask<T: for<'a> Deserialize<'a>>(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<Answer<T>> {
        let mut last = None;
        for base in &self.urls {
            let mut request = self.http.request(method.clone(), address(base, path)?).header("Accept", CONTENT_TYPE);
            request = match &self.access {
                Access::Open => request,
                Access::Basic(user, password) => request.basic_auth(user, Some(password)),
                Access::Bearer(token) => request.bearer_auth(token),
            };
            if let Some(body) = &body {
                request = request.header("Content-Type", CONTENT_TYPE).body(body.to_string());
            }
            match answer(base, request).await {
                Err(error) if error.is_transient() => last = Some(error),
                answer => return answer,
            }
        }
        Err(last.unwrap_or_else(|| Error::permanent("no schema registry is named")))
    }
}

fn address(base: &str, path: &[&str]) -> Result<Url> {
    let wrong = || Error::invalid(format!("option 'schema_registry': '{base}' is not a URL"));
    let mut url = Url::parse(base).map_err(|_| wrong())?;
    let mut query = None;
    {
        let mut segments = url.path_segments_mut().map_err(|()| wrong())?;
        segments.pop_if_empty();
        for segment in path {
            let (segment, behind) = segment.split_once("?verbose").map_or((*segment, None), |(s, q)| (s, Some(q)));
            segments.push(segment);
            query = behind.map(|behind| format!("verbose{behind}"));
        }
    }
    url.set_query(query.as_deref());
    Ok(url)
}

/// Sends a request and reads what comes back.
async fn answer<T: for<'a> Deserialize<'a>>(base: &str, request: RequestBuilder) -> Result<Answer<T>> {
    let unreachable = |e: reqwest::Error| {
        let error = Error::transient(format!("the schema registry at {base} cannot be reached: {}", causes(&e)));
        if causes(&e).to_ascii_lowercase().contains("certificate") {
            error.hint("schema_registry_ca_location names the certificates to trust")
        } else {
            error
        }
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let body = response.bytes().await.map_err(unreachable)?;
    let told: Option<Value> = serde_json::from_slice(&body).ok();
    let code = told.as_ref().and_then(|told| told["error_code"].as_u64());
    let message = told.as_ref().and_then(|told| told["message"].as_str()).unwrap_or_default().to_owned();
    let said = if message.is_empty() { status.to_string() } else { format!("{status}: {message}") };
    let place = format!("the schema registry at {base}");
    match status {
        StatusCode::OK | StatusCode::CREATED => {
            serde_json::from_slice(&body).map(Answer::Here).map_err(|_| no_registry(base, &said))
        }
        StatusCode::NOT_FOUND if matches!(code, Some(40400..=40499)) => Ok(Answer::Missing(message)),
        StatusCode::UNAUTHORIZED => {
            Err(Error::permanent(format!("{place} lets nobody in without the right credentials: {said}"))
                .hint("set schema_registry_username and schema_registry_password, or schema_registry_token"))
        }
        StatusCode::FORBIDDEN => Err(Error::permanent(format!("{place} does not allow that: {said}"))
            .hint("the user needs the right to read schemas; a sink with auto_register also to write to its subject")),
        StatusCode::CONFLICT => Err(Error::permanent(format!("{place} refuses the schema as incompatible: {message}"))),
        StatusCode::UNPROCESSABLE_ENTITY => Err(Error::permanent(format!("{place} refuses it: {said}"))),
        StatusCode::NOT_FOUND => Err(no_registry(base, &said)),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(Error::transient(format!("{place} answers {said}")))
        }
        _ => Err(Error::permanent(format!("{place} answers {said}"))),
    }
}

fn no_registry(base: &str, said: &str) -> Error {
    Error::permanent(format!("what answers at {base} is no schema registry: {said}")).hint(
        "the option schema_registry is the URL under which '/subjects' lies: http://host:8081 (Confluent, Karapace, Redpanda), \
         http://host:8080/apis/ccompat/v7 (Apicurio)",
    )
}

/// The messages of an error and its causes, each said once, without the URL.
fn causes(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    let mut text = String::new();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_path_are_escaped_and_the_base_path_is_kept() {
        let url = |base: &str, path: &[&str]| address(base, path).unwrap().to_string();
        assert_eq!(url("http://r:1/apis/v7", &["subjects", "a/b value"]), "http://r:1/apis/v7/subjects/a%2Fb%20value");
        assert_eq!(url("http://r:1", &["schemas", "ids", "7"]), "http://r:1/schemas/ids/7");
        assert_eq!(url("http://r:1", &["versions", "latest?verbose=true"]), "http://r:1/versions/latest?verbose=true");
    }
}
