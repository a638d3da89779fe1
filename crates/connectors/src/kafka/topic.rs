//! Topics of the cluster: which there are, how many partitions they have, names near a missing one, and how one is created.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::{Metadata, MetadataTopic};
use riverrun_engine::time::Stopwatch;
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, classify, lock};
use super::config::{Config, Topics};

/// How long one question lasts, before it is looked why there is no answer.
const QUESTION: Duration = Duration::from_millis(500);

/// How long events are taken in after a question that was not answered.
const EVENTS: Duration = Duration::from_millis(20);

/// A client that only asks; also what sinks use, since a consumer's question never creates a topic.
pub(super) fn asker(config: &Config) -> Result<BaseConsumer<Callbacks>> {
    config.check_files()?;
    let created = config.consumer().create_with_context(Callbacks::default());
    created.map_err(|e| classify(&e, &format!("client for {}", config.topics)))
}

/// The topics of a table that is read, with their partition counts: as named, or by name.
pub(super) fn resolve(client: &BaseConsumer<Callbacks>, config: &Config) -> Result<Vec<(String, u32)>> {
    match &config.topics {
        Topics::Named(names) => {
            let count = |name: &String| match partitions(client, config, name)? {
                Some(count) => Ok((name.clone(), count)),
                None if config.is_repartition => Ok((name.clone(), await_created(client, config, name)?)),
                None => Err(missing(client, config, name)),
            };
            names.iter().map(count).collect()
        }
        Topics::Pattern(pattern) => {
            let metadata = ask(client, config, None)?;
            let fits = |topic: &&MetadataTopic| pattern.is_match(topic.name()) && !internal(topic.name());
            let found = metadata.topics().iter().filter(fits).filter(|t| !t.partitions().is_empty());
            let mut found: Vec<_> = found.map(|t| (t.name().to_owned(), t.partitions().len() as u32)).collect();
            found.sort();
            if found.is_empty() {
                let mut names: Vec<_> = metadata.topics().iter().map(|t| t.name()).filter(|name| !internal(name)).collect();
                names.sort_unstable();
                names.truncate(8);
                let error = Error::permanent(format!("Kafka at {} has no {}", config.brokers, config.topics));
                return Err(error.hint(format!("the whole name must fit; there are: {}", names.join(", "))));
            }
            Ok(found)
        }
    }
}

/// Kafka's own, which no pattern means.
fn internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// How many partitions a topic has; `None`: there is no such topic.
pub(super) fn partitions(client: &BaseConsumer<Callbacks>, config: &Config, topic: &str) -> Result<Option<u32>> {
    let metadata = ask(client, config, Some(topic))?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
    match found.error().map(Code::from) {
        None if found.partitions().is_empty() => Ok(None),
        None => Ok(Some(found.partitions().len() as u32)),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        Some(code) => Err(classify(&KafkaError::MetadataFetch(code), &format!("topic '{topic}'"))),
    }
}

/// How many partitions a topic has that was just created: each broker tells of it a moment later.
pub(super) fn await_created(client: &BaseConsumer<Callbacks>, config: &Config, topic: &str) -> Result<u32> {
    let stopwatch = Stopwatch::start();
    loop {
        if let Some(count) = partitions(client, config, topic)? {
            return Ok(count);
        }
        if Duration::from_nanos(stopwatch.nanos()) >= config.patience {
            let what = format!("topic '{topic}' was created, and Kafka at {} does not know it", config.brokers);
            return Err(Error::transient(what).hint("was it deleted?"));
        }
        while client.poll(EVENTS).is_some() {}
    }
}

/// Asks the brokers about a topic, or all: for as long as `patience`, unless they were reached and did not let us in.
fn ask(client: &BaseConsumer<Callbacks>, config: &Config, topic: Option<&str>) -> Result<Metadata> {
    let stopwatch = Stopwatch::start();
    loop {
        let error = match client.client().fetch_metadata(topic, QUESTION.min(config.patience)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        // The reason comes as an event, maybe behind lines of the client's log: a poll without a wait takes one of either.
        while client.poll(EVENTS).is_some() {}
        let callbacks = client.context();
        if let Some(trouble) = callbacks.refused() {
            let what = format!("Kafka at {} refuses: {}", config.brokers, trouble.reason);
            return Err(Error::permanent(what).hint("check the options security_protocol and sasl_*"));
        }
        if Duration::from_nanos(stopwatch.nanos()) >= config.patience {
            return Err(unreachable(&error, config, callbacks));
        }
    }
}

fn unreachable(error: &KafkaError, config: &Config, callbacks: &Callbacks) -> Error {
    let what = format!("no answer about {} from Kafka at {} within {:?}", config.topics, config.brokers, config.patience);
    let Some(trouble) = lock(&callbacks.trouble).clone() else {
        let error = classify(error, &what);
        return if error.is_transient() { error.hint("is Kafka running, and are 'brokers' right?") } else { error };
    };
    let error = Error::transient(format!("{what}: {}", trouble.reason));
    match trouble.code {
        // OpenSSL's own words may come under another code.
        code if code == Code::SSL || trouble.reason.contains("SSL routines") => {
            error.hint("check the options security_protocol and ssl_*")
        }
        _ => error.hint("is Kafka running, and are 'brokers' and 'security_protocol' right?"),
    }
}

/// There is no such topic: names those that are most like it.
fn missing(client: &BaseConsumer<Callbacks>, config: &Config, topic: &str) -> Error {
    let error = Error::permanent(format!("Kafka at {} has no topic '{topic}'", config.brokers));
    let Ok(metadata) = ask(client, config, None) else { return error };
    let names = metadata.topics().iter().map(|t| t.name()).filter(|name| !internal(name));
    let likeness = |name: &str| strsim::jaro_winkler(name, topic);
    let mut near: Vec<&str> = names.filter(|name| likeness(name) > 0.75).collect();
    near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    near.truncate(3);
    match near.is_empty() {
        true => error.hint("create it, or correct the option 'topic'"),
        false => error.hint(format!("did you mean {}?", near.join(", "))),
    }
}

/// Creates the topic as the options say, unless it is there. Gives its name.
///
/// The question is a consumer's: a producer's would make a broker with `auto.create.topics.enable` create the topic in its
/// own way.
pub(super) fn create_if_missing(config: &Config) -> Result<String> {
    let Some(topic) = config.topics.one() else {
        return Err(Error::invalid(format!("{}: rows are written to one topic", config.topics)));
    };
    let client = asker(config)?;
    if partitions(&client, config, topic)?.is_some() {
        return Ok(topic.to_owned());
    }
    create(config, topic, config.partitions, &config.topic_config)?;
    Ok(topic.to_owned())
}

/// Creates a topic; that somebody else was faster is fine.
pub(super) fn create(config: &Config, topic: &str, partitions: i32, settings: &[(&str, String)]) -> Result<()> {
    let what = format!("topic '{topic}' cannot be created at {}", config.brokers);
    let (admin, options) = admin(config)?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(config.replication));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    let results = block_on(admin.create_topics([&new], &options)).map_err(|e| classify(&e, &what))?;
    match results.into_iter().next() {
        Some(Err((_, code))) if code != Code::TopicAlreadyExists => Err(classify(&KafkaError::AdminOp(code), &what)),
        _ => {
            tracing::info!("created topic '{topic}' with {partitions} partitions");
            Ok(())
        }
    }
}

/// A client that changes topics, and how long it may take.
pub(super) fn admin(config: &Config) -> Result<(AdminClient<Callbacks>, AdminOptions)> {
    let what = format!("client for {}", config.brokers);
    let admin = config.producer().create_with_context(Callbacks::default()).map_err(|e| classify(&e, &what))?;
    let options = AdminOptions::new().operation_timeout(Some(config.patience)).request_timeout(Some(config.patience));
    Ok((admin, options))
}

/// Waits for a future whose work is done by librdkafka's threads.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
