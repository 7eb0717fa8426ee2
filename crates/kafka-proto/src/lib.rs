//! The Kafka protocol without a socket.
