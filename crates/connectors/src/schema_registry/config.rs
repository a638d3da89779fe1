//! The options of tables whose records have their schemas in a registry, parsed.

use std::path::PathBuf;
use std::time::Duration;

use riverrun_engine::table::{Options, Table};
use riverrun_engine::{Error, Result};

use crate::connector::{OptionDescription, option};

/// Connectors whose tables may have these options: their records carry the id of a schema.
pub(crate) const SERVED: [&str; 2] = ["kafka", "log"];

/// The options, for people and the registry of connectors.
pub(crate) const OPTIONS: &[OptionDescription] = &[
    option("schema_registry", "", "avro: URL of the schema registry's API; several with commas: the first that answers"),
    option("schema_registry_username", "", "avro: user, where the registry asks for one"),
    option("schema_registry_password", "", "avro: the user's password"),
    option("schema_registry_token", "", "avro: bearer token, instead of a user"),
    option("schema_registry_ca_location", "", "avro: file (PEM) of certificates to trust besides the system's"),
    option("schema_registry_timeout", "5 seconds", "avro: how long a question to the registry may take"),
    option("schema_registry_cache", "", "avro: folder that keeps schemas; default: 'schemas' in the data directory"),
    option("subject", "", "avro: the subject of the records' schema; default: by subject_strategy"),
    option("subject_strategy", "topic", "avro: topic = '<topic>-value', record = the record's name, topic_record = both"),
    option("schema_version", "latest", "avro, source: the version of the subject that gives the columns of (*)"),
    option("reader_schema", "", "avro, source: a schema (JSON) whose defaults stand in for fields that a record's schema lacks"),
    option("auto_register", "true", "avro, sink: whether the columns' schema is registered; false: the latest one is written"),
    option("compatibility", "", "avro, sink: compatibility level to set for the subject; default: as it is"),
    option("record_name", "", "avro: the record's name, with its namespace; default: the table's name"),
    option("record_doc", "", "avro, sink: what the record is, for readers of the schema"),
];

/// How the subject of a topic's schema is called (Confluent's strategies).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubjectStrategy {
    /// `<topic>-value`.
    Topic,
    /// The record's full name.
    Record,
    /// `<topic>-<the record's full name>`.
    TopicRecord,
}

/// What may change between versions of a subject, as registries call it.
pub(crate) type Compatibility = &'static str;

const LEVELS: [Compatibility; 7] =
    ["NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"];

/// Who asks, as the registry wants to know it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Open,
    /// User and password.
    Basic(String, String),
    /// A token.
    Bearer(String),
}

/// A table's options, parsed. Shown nowhere: it holds passwords.
#[derive(Clone)]
pub(crate) struct Config {
    /// Where the API is, without a `/` at the end; at least one.
    pub urls: Vec<String>,
    pub access: Access,
    pub ca_location: Option<PathBuf>,
    pub timeout: Duration,
    /// `None`: in the data directory.
    pub cache: Option<PathBuf>,
    subject: Option<String>,
    strategy: SubjectStrategy,
    /// `None`: the latest.
    pub schema_version: Option<u32>,
    pub reader_schema: Option<String>,
    pub auto_register: bool,
    pub compatibility: Option<Compatibility>,
    /// With its namespace, if it has one.
    pub record_name: String,
    pub record_doc: Option<String>,
    /// Whether the script says how the record is called.
    named: bool,
}

impl Config {
    /// The options of a table.
    ///
    /// # Errors
    /// An option that is missing or wrong.
    pub fn of(table: &Table) -> Result<Self> {
        let options = &table.options;
        let strategies = [
            ("topic", SubjectStrategy::Topic),
            ("record", SubjectStrategy::Record),
            ("topic_record", SubjectStrategy::TopicRecord),
        ];
        Ok(Self {
            urls: urls(options)?,
            access: access(options)?,
            ca_location: options.get("schema_registry_ca_location").map(PathBuf::from),
            timeout: options.duration("schema_registry_timeout")?.unwrap_or(Duration::from_secs(5)),
            cache: options.get("schema_registry_cache").map(PathBuf::from),
            subject: options.get("subject"),
            strategy: options.one_of("subject_strategy", &strategies)?.unwrap_or(SubjectStrategy::Topic),
            schema_version: version(options)?,
            reader_schema: options.get("reader_schema"),
            auto_register: options.parse("auto_register", "true or false")?.unwrap_or(true),
            compatibility: options.one_of("compatibility", &LEVELS.map(|level| (level, level)))?,
            record_name: record_name(table)?,
            record_doc: options.get("record_doc"),
            named: options.get("record_name").is_some(),
        })
    }

    /// The subject of the schema of a topic's values.
    ///
    /// # Errors
    /// It is by the record's name, and the script does not say it; or there are several topics.
    pub fn subject(&self, options: &Options) -> Result<String> {
        if let Some(subject) = &self.subject {
            return Ok(subject.clone());
        }
        if self.strategy != SubjectStrategy::Topic && !self.named {
            let what = "the subject is called by the record's name, which is not given";
            return Err(options.error("subject_strategy", what).hint("add record_name = 'com.example.Transaction'"));
        }
        let topic = options.get("topic").filter(|topic| !topic.contains(',')).ok_or_else(|| {
            Error::invalid("the subject is called by the topic, and the table is not of one topic").hint("add subject = '…'")
        });
        Ok(match self.strategy {
            SubjectStrategy::Topic => format!("{}-value", topic?.trim()),
            SubjectStrategy::Record => self.record_name.clone(),
            SubjectStrategy::TopicRecord => format!("{}-{}", topic?.trim(), self.record_name),
        })
    }
}

fn urls(options: &Options) -> Result<Vec<String>> {
    let hint = "add schema_registry = 'http://host:8081'; there the schemas of the records are. Avro without a registry is not \
                possible for records of a topic";
    let Some(text) = options.get("schema_registry") else {
        return Err(Error::invalid("format = 'avro' needs the option 'schema_registry'").hint(hint));
    };
    let urls = text.split(',').map(|url| url.trim().trim_end_matches('/').to_owned());
    let urls: Vec<String> = urls.filter(|url| !url.is_empty()).collect();
    let wrong = urls.is_empty() || urls.iter().any(|url| !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)));
    if wrong {
        return Err(options.error("schema_registry", &format!("'{text}' is not a URL")).hint("such as 'http://registry:8081'"));
    }
    if let Some(url) = urls.iter().find(|url| url.split('/').nth(2).is_some_and(|host| host.contains('@'))) {
        let shown = url.split('@').next_back().unwrap_or_default();
        return Err(options
            .error("schema_registry", &format!("the URL of {shown} holds a user"))
            .hint("use schema_registry_username and schema_registry_password"));
    }
    Ok(urls)
}

fn access(options: &Options) -> Result<Access> {
    let get = |name: &str| options.get(&format!("schema_registry_{name}"));
    match (get("username"), get("password"), get("token")) {
        (None, None, None) => Ok(Access::Open),
        (Some(user), Some(password), None) => Ok(Access::Basic(user, password)),
        (None, None, Some(token)) => Ok(Access::Bearer(token)),
        (Some(_), None, None) => Err(options.error("schema_registry_username", "schema_registry_password is missing")),
        (None, Some(_), _) => Err(options.error("schema_registry_password", "schema_registry_username is missing")),
        (Some(_), _, Some(_)) => Err(options.error("schema_registry_token", "there is a user too: give one of them")),
    }
}

fn version(options: &Options) -> Result<Option<u32>> {
    match options.get("schema_version").as_deref().map(str::trim) {
        None | Some("latest") => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(version) if version > 0 => Ok(Some(version)),
            _ => Err(options.error("schema_version", &format!("'{text}' is neither 'latest' nor a version's number"))),
        },
    }
}

fn record_name(table: &Table) -> Result<String> {
    let Some(name) = table.options.get("record_name") else {
        let name = table.name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_");
        return Ok(if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name });
    };
    match name.split('.').all(is_name) {
        true => Ok(name),
        false => Err(table
            .options
            .error("record_name", &format!("'{name}' is not a name in Avro"))
            .hint("letters, digits and '_', a letter first; a namespace stands before it with dots: 'com.example.Transaction'")),
    }
}

/// Whether Avro takes this as a name.
pub(crate) fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use riverrun_engine::table::Location;

    use super::*;

    fn of(options: &[(&str, &str)]) -> Result<(Config, Options)> {
        let options = Options::of(&[&[("topic", "orders"), ("schema_registry", "http://r:8081/")], options].concat());
        let table = Table {
            name: "my table".into(),
            columns: Vec::new(),
            watermark: None,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            options: options.clone(),
            location: Location::default(),
        };
        Config::of(&table).map(|config| (config, options))
    }

    fn subject(options: &[(&str, &str)]) -> Result<String> {
        let (config, options) = of(options)?;
        config.subject(&options)
    }

    fn refused(options: &[(&str, &str)]) -> String {
        of(options).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn subjects_are_called_as_confluents_strategies_say() {
        let name = ("record_name", "com.example.Order");
        assert_eq!(subject(&[]).unwrap(), "orders-value");
        assert_eq!(subject(&[("subject_strategy", "record"), name]).unwrap(), "com.example.Order");
        assert_eq!(subject(&[("subject_strategy", "topic_record"), name]).unwrap(), "orders-com.example.Order");
        assert_eq!(subject(&[("subject_strategy", "record"), ("subject", "mine")]).unwrap(), "mine");
        assert!(subject(&[("subject_strategy", "record")]).unwrap_err().to_string().contains("record_name"));
        assert!(subject(&[("topic", "a,b")]).unwrap_err().to_string().contains("subject"));
    }

    #[test]
    fn a_record_is_called_like_its_table_unless_it_is_named() {
        assert_eq!(of(&[]).unwrap().0.record_name, "my_table");
        assert!(refused(&[("record_name", "com.2.x")]).contains("record_name"));
    }

    #[test]
    fn who_asks_is_one_and_whole() {
        assert!(of(&[("schema_registry_username", "u"), ("schema_registry_password", "p")]).is_ok());
        for wrong in [
            &[("schema_registry_username", "u")][..],
            &[("schema_registry_password", "p")],
            &[("schema_registry_username", "u"), ("schema_registry_password", "p"), ("schema_registry_token", "t")],
        ] {
            assert!(refused(wrong).contains("schema_registry_"), "{wrong:?}");
        }
    }

    #[test]
    fn wrong_values_are_refused_without_showing_secrets() {
        for (name, value) in [
            ("schema_registry", "registry:8081"),
            ("schema_registry", ","),
            ("schema_registry_timeout", "soon"),
            ("schema_version", "0"),
            ("auto_register", "maybe"),
            ("compatibility", "SOME"),
            ("subject_strategy", "table"),
        ] {
            assert!(refused(&[(name, value)]).contains(name), "{name}");
        }
        let told = refused(&[("schema_registry", "http://user:secret@r:8081")]);
        assert!(told.contains("schema_registry_username") && !told.contains("secret"), "{told}");
    }
}
