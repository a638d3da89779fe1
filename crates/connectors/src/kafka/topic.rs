//! A topic of the cluster: how many partitions it has, names near a missing one, and how it is created.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use riverrun_engine::{Error, Result};

use super::client::{Callbacks, classify};
use super::config::Config;

/// How many partitions the topic has; `None`: there is no such topic.
pub(super) fn partitions<C: ClientContext>(client: &Client<C>, config: &Config) -> Result<Option<u32>> {
    let metadata = client.fetch_metadata(Some(&config.topic), config.patience).map_err(|e| unreachable(&e, config))?;
    let Some(topic) = metadata.topics().iter().find(|t| t.name() == config.topic) else { return Ok(None) };
    match topic.error().map(Code::from) {
        None if topic.partitions().is_empty() => Ok(None),
        None => Ok(Some(topic.partitions().len() as u32)),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
        Some(code) => Err(classify(&rdkafka::error::KafkaError::MetadataFetch(code), &format!("topic '{}'", config.topic))),
    }
}

/// There is no such topic: names those that are most like it.
pub(super) fn missing<C: ClientContext>(client: &Client<C>, config: &Config) -> Error {
    let error = Error::permanent(format!("Kafka at {} has no topic '{}'", config.brokers, config.topic));
    let Ok(metadata) = client.fetch_metadata(None, config.patience) else { return error };
    let names = metadata.topics().iter().map(|t| t.name()).filter(|name| !name.starts_with("__"));
    let likeness = |name: &str| strsim::jaro_winkler(name, &config.topic);
    let mut near: Vec<&str> = names.filter(|name| likeness(name) > 0.75).collect();
    near.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    near.truncate(3);
    match near.is_empty() {
        true => error.hint("create it, or correct the option 'topic'"),
        false => error.hint(format!("did you mean {}?", near.join(", "))),
    }
}

fn unreachable(error: &rdkafka::error::KafkaError, config: &Config) -> Error {
    let what = format!("no answer about topic '{}' from Kafka at {} within {:?}", config.topic, config.brokers, config.patience);
    let error = classify(error, &what);
    if error.is_transient() { error.hint("is Kafka running, and are 'brokers' right?") } else { error }
}

/// Creates the topic as the options say, unless it is there.
pub(super) fn create_if_missing<C: ClientContext>(client: &Client<C>, config: &Config) -> Result<()> {
    if partitions(client, config)?.is_some() {
        return Ok(());
    }
    let what = format!("topic '{}' cannot be created at {}", config.topic, config.brokers);
    let admin: AdminClient<Callbacks> =
        config.producer().create_with_context(Callbacks::default()).map_err(|e| classify(&e, &what))?;
    let topic = NewTopic::new(&config.topic, config.partitions, TopicReplication::Fixed(config.replication));
    let options = AdminOptions::new().operation_timeout(Some(config.patience)).request_timeout(Some(config.patience));
    let results = block_on(admin.create_topics([&topic], &options)).map_err(|e| classify(&e, &what))?;
    match results.into_iter().next() {
        Some(Err((_, code))) if code != Code::TopicAlreadyExists => {
            Err(classify(&rdkafka::error::KafkaError::AdminOp(code), &what))
        }
        _ => Ok(()),
    }
}

/// Waits for a future whose work is done by librdkafka's threads.
fn block_on<T>(future: impl Future<Output = T>) -> T {
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
