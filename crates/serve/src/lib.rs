//! Riverrun's HTTP endpoint: live tables, logs and counts of a running pipeline, on loopback.
