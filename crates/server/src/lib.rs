//! Ottla's listeners: Kafka, AMQP 0-9-1 and HTTP over one engine.
