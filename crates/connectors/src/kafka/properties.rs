//! What is passed on to librdkafka: the options of security by their own names, and anything behind `kafka.`.
//!
//! Invariants: a property that an option of ours sets, or that a promise of this connector rests upon, is refused behind
//! `kafka.`, with the reason; the value of a secret property is in no message.

use std::collections::BTreeMap;

use riverrun_engine::Result;
use riverrun_engine::table::Options;

/// What a user's properties start with.
const PREFIX: &str = "kafka.";

/// Options of security, and the properties that they are.
const SECURITY: [(&str, &str); 9] = [
    ("security_protocol", "security.protocol"),
    ("sasl_mechanism", "sasl.mechanism"),
    ("sasl_username", "sasl.username"),
    ("sasl_password", "sasl.password"),
    ("ssl_ca_location", "ssl.ca.location"),
    ("ssl_certificate_location", "ssl.certificate.location"),
    ("ssl_key_location", "ssl.key.location"),
    ("ssl_key_password", "ssl.key.password"),
    ("ssl_endpoint_identification", "ssl.endpoint.identification.algorithm"),
];

const POSITIONS: &str = "positions are kept with the pipeline's state, never by the client alone";
const SAFE: &str = "rows count as safe when all replicas have them, in order and once per session";
const TASKS: &str = "instances of a pipeline share its tasks in one way: say SET pipeline.instance, or --instance";

/// Whether an option says how the cluster is reached.
pub(super) fn is_access(option: &str) -> bool {
    SECURITY.iter().any(|(name, _)| *name == option)
}

/// Properties that are not the user's to set, and why.
const OURS: [(&str, &str); 26] = [
    ("bootstrap.servers", "use the option 'brokers'"),
    ("metadata.broker.list", "use the option 'brokers'"),
    ("client.id", "use the option 'client_id'"),
    ("group.id", "use the option 'group'"),
    ("isolation.level", "use the option 'isolation_level'"),
    ("compression.type", "use the option 'compression'"),
    ("compression.codec", "use the option 'compression'"),
    ("auto.offset.reset", "use the options 'starting_offsets' and 'fail_on_data_loss'"),
    ("enable.auto.commit", POSITIONS),
    ("auto.commit.enable", POSITIONS),
    ("auto.commit.interval.ms", POSITIONS),
    ("enable.auto.offset.store", POSITIONS),
    ("offset.store.method", POSITIONS),
    ("enable.partition.eof", "the end of a partition ends a bounded run"),
    ("enable.idempotence", SAFE),
    ("enable.gapless.guarantee", SAFE),
    ("acks", SAFE),
    ("request.required.acks", SAFE),
    ("transactional.id", SAFE),
    ("delivery.report.only.error", SAFE),
    ("group.protocol", TASKS),
    ("group.instance.id", TASKS),
    ("partition.assignment.strategy", TASKS),
    ("statistics.interval.ms", "lag and new partitions are found by the statistics"),
    ("log.queue", "the client's log goes to the program's"),
    ("plugin.library.paths", "a script loads no code into this program"),
];

/// The properties that the options make.
///
/// # Errors
/// One of `OURS`, or one that is given twice.
pub(super) fn passed_on(options: &Options) -> Result<BTreeMap<String, String>> {
    let mut properties = BTreeMap::new();
    for (option, property) in SECURITY {
        if let Some(value) = options.get(option) {
            properties.insert(property.to_owned(), value);
        }
    }
    for (name, value) in options.iter() {
        let Some(property) = name.strip_prefix(PREFIX) else { continue };
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == property) {
            return Err(options.error(name, &format!("this property is Riverrun's to set: {why}")));
        }
        if properties.insert(property.to_owned(), value.value.clone()).is_some() {
            let twin = SECURITY.iter().find(|(_, p)| *p == property).map_or("", |(option, _)| option);
            return Err(options.error(name, &format!("the option '{twin}' says it already")));
        }
    }
    Ok(properties)
}

/// Whether the value of a property may be in no message.
pub(super) fn is_secret(property: &str) -> bool {
    ["password", "secret", "pem", "oauthbearer.config", "assertion"].iter().any(|part| property.contains(part))
}
