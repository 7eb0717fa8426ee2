//! The broker without a wire: topics, groups, transactions, exchanges, queues.
