//! The options of `connector = 'cassandra'`, parsed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use riverrun_engine::table::{Options, Table};
use riverrun_engine::{Error, Result};
use scylla::statement::Consistency;

/// Cassandra takes no longer time to live: 20 years.
const LONGEST_TTL: u64 = 20 * 365 * 86_400;

const NAMES: &str = "letters, digits and _, at most 48, a letter first";

/// What `WITH (…)` says.
#[derive(Debug, Clone)]
pub(super) struct Config {
    /// Nodes to begin with.
    pub contact_points: Vec<String>,
    pub keyspace: String,
    /// The table's name in Cassandra.
    pub table: String,
    /// Columns of the partition key, where they are given.
    pub partition_key: Option<Vec<String>>,
    /// Whether what is missing is created.
    pub create: bool,
    pub replication: Replication,
    /// The class of a new table's compaction, and its options.
    pub compaction: Option<Compaction>,
    /// Seconds after which a row expires.
    pub ttl: Option<u32>,
    pub timestamps: Timestamps,
    pub null_keys: NullKeys,
    pub consistency: Consistency,
    pub datacenter: Option<String>,
    /// The most requests on their way.
    pub concurrency: usize,
    pub request_timeout: Duration,
    pub login: Option<Login>,
    pub tls: Option<Tls>,
}

/// The class of a compaction strategy, and its options.
pub(super) type Compaction = (String, Vec<(String, String)>);

/// How many copies a new keyspace keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replication {
    /// Three, or one on each of fewer nodes.
    ByNodes,
    /// As many in every datacenter.
    Factor(u32),
    /// By datacenter.
    Datacenters(Vec<(String, u32)>),
}

/// What a TIMESTAMP is in Cassandra.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestamps {
    /// `timestamp`, in milliseconds.
    Millis,
    /// `bigint`, in microseconds.
    Micros,
}

/// What a NULL in the PRIMARY KEY does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NullKeys {
    Fail,
    Empty,
}

/// User and password. The password is in no message and no log.
#[derive(Clone)]
pub(super) struct Login {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How TLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// Certificates to trust; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// This program's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether a certificate must be for the node's address.
    pub check_address: bool,
}

impl Config {
    /// Reads the options without I/O.
    pub fn of(table: &Table) -> Result<Self> {
        let options = &table.options;
        let contact_points = list(&options.get("contact_points").unwrap_or_else(|| "localhost:9042".to_owned()));
        if contact_points.is_empty() {
            return Err(options.error("contact_points", "names no node").hint("such as 'cassandra-1:9042, cassandra-2:9042'"));
        }
        let keyspace = options.required("keyspace")?;
        let name = options.get("table").unwrap_or_else(|| table.name.clone());
        for (option, name) in [("keyspace", &keyspace), ("table", &name)] {
            if !is_name(name) {
                return Err(options.error(option, &format!("'{name}' is no name in Cassandra: {NAMES}")));
            }
        }
        let concurrency = options.parse::<usize>("concurrency", "a number of requests")?.unwrap_or(256);
        if !(1..=32_768).contains(&concurrency) {
            return Err(options.error("concurrency", "must be from 1 to 32768"));
        }
        let request_timeout = options.duration("request_timeout")?.unwrap_or(Duration::from_secs(10));
        if request_timeout.is_zero() {
            return Err(options.error("request_timeout", "must be more than 0"));
        }
        let timestamps = [("timestamp", Timestamps::Millis), ("bigint", Timestamps::Micros)];
        Ok(Self {
            contact_points,
            keyspace,
            table: name,
            partition_key: partition_key(table)?,
            create: options.parse("create", "true or false")?.unwrap_or(true),
            replication: replication(options)?,
            compaction: compaction(options)?,
            ttl: ttl(options)?,
            timestamps: options.one_of("timestamps", &timestamps)?.unwrap_or(Timestamps::Millis),
            null_keys: options
                .one_of("null_keys", &[("fail", NullKeys::Fail), ("empty", NullKeys::Empty)])?
                .unwrap_or(NullKeys::Fail),
            consistency: consistency(options)?,
            datacenter: options.get("datacenter").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
            concurrency,
            request_timeout,
            login: login(options)?,
            tls: tls(options)?,
        })
    }

    /// The table's full name.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.keyspace, self.table)
    }

    /// The nodes to begin with, for messages.
    pub fn nodes(&self) -> String {
        self.contact_points.join(", ")
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn is_name(name: &str) -> bool {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    letters && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 48
}

fn partition_key(table: &Table) -> Result<Option<Vec<String>>> {
    let Some(names) = table.options.get("partition_key").map(|text| list(&text)).filter(|names| !names.is_empty()) else {
        return Ok(None);
    };
    for (i, name) in names.iter().enumerate() {
        if !table.primary_key.contains(name) {
            let what = format!("{name} is not in PRIMARY KEY ({})", table.primary_key.join(", "));
            return Err(table.options.error("partition_key", &what));
        }
        if names[..i].contains(name) {
            return Err(table.options.error("partition_key", &format!("names {name} twice")));
        }
    }
    Ok(Some(names))
}

fn replication(options: &Options) -> Result<Replication> {
    let Some(text) = options.get("replication").filter(|text| !text.trim().is_empty()) else { return Ok(Replication::ByNodes) };
    let wrong = || {
        let error = options.error("replication", &format!("'{text}' is no number of copies"));
        error.hint("copies in every datacenter ('3'), or by datacenter ('dc1:3, dc2:2')")
    };
    let copies = |text: &str| text.trim().parse::<u32>().ok().filter(|copies| *copies > 0).ok_or_else(wrong);
    if !text.contains(':') {
        return Ok(Replication::Factor(copies(&text)?));
    }
    let one = |part: &String| {
        let (datacenter, number) = part.split_once(':').filter(|(name, _)| !name.trim().is_empty()).ok_or_else(wrong)?;
        Ok((datacenter.trim().to_owned(), copies(number)?))
    };
    Ok(Replication::Datacenters(list(&text).iter().map(one).collect::<Result<_>>()?))
}

fn compaction(options: &Options) -> Result<Option<Compaction>> {
    let mut parts = list(&options.get("compaction").unwrap_or_default()).into_iter();
    let Some(class) = parts.next() else { return Ok(None) };
    let hint = "such as 'TimeWindowCompactionStrategy, compaction_window_unit:DAYS, compaction_window_size:1'";
    if class.contains(':') {
        return Err(options.error("compaction", &format!("'{class}' is no strategy")).hint(hint));
    }
    let one = |part: String| match part.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(options.error("compaction", &format!("'{part}' is no option of {class}")).hint(hint)),
    };
    let more = parts.map(one).collect::<Result<_>>()?;
    Ok(Some((class, more)))
}

/// Seconds, at least one where the time is not zero.
fn ttl(options: &Options) -> Result<Option<u32>> {
    let Some(time) = options.duration("ttl")?.filter(|time| !time.is_zero()) else { return Ok(None) };
    let seconds = time.as_millis().div_ceil(1000) as u64;
    match u32::try_from(seconds) {
        Ok(ttl) if seconds <= LONGEST_TTL => Ok(Some(ttl)),
        _ => Err(options
            .error("ttl", "Cassandra keeps rows that expire for 20 years at most")
            .hint("leave it out: rows do not expire")),
    }
}

fn consistency(options: &Options) -> Result<Consistency> {
    let levels = [
        ("one", Consistency::One),
        ("two", Consistency::Two),
        ("three", Consistency::Three),
        ("quorum", Consistency::Quorum),
        ("all", Consistency::All),
        ("local_one", Consistency::LocalOne),
        ("local_quorum", Consistency::LocalQuorum),
        ("each_quorum", Consistency::EachQuorum),
    ];
    Ok(options.one_of("consistency", &levels)?.unwrap_or(Consistency::LocalQuorum))
}

fn given(options: &Options, name: &str) -> Option<String> {
    options.get(name).filter(|value| !value.is_empty())
}

fn login(options: &Options) -> Result<Option<Login>> {
    match (given(options, "username"), given(options, "password")) {
        (Some(username), Some(password)) => Ok(Some(Login { username, password })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(options.error("username", "there is no password").hint("add password = '${CASSANDRA_PASSWORD}'")),
        (None, Some(_)) => Err(options.error("password", "there is no username").hint("add username = '…'")),
    }
}

fn tls(options: &Options) -> Result<Option<Tls>> {
    let on = options.parse("tls", "true or false")?.unwrap_or(false);
    let check = options.one_of("ssl_endpoint_identification", &[("https", true), ("none", false)])?;
    let path = |name: &str| given(options, name).map(PathBuf::from);
    let (ca, certificate, key) = (path("ssl_ca_location"), path("ssl_certificate_location"), path("ssl_key_location"));
    if !on {
        let names = [(&ca, "ssl_ca_location"), (&certificate, "ssl_certificate_location"), (&key, "ssl_key_location")];
        return match names.iter().find(|(path, _)| path.is_some()) {
            Some((_, name)) => Err(options.error(name, "TLS is off").hint("add tls = 'true'")),
            None => Ok(None),
        };
    }
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(Error::invalid("option 'ssl_certificate_location' needs 'ssl_key_location'")),
        (None, Some(_)) => return Err(Error::invalid("option 'ssl_key_location' needs 'ssl_certificate_location'")),
    };
    Ok(Some(Tls { ca, identity, check_address: check.unwrap_or(true) }))
}
