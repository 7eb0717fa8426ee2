//! A small Kafka client for Ottla's own commands.
