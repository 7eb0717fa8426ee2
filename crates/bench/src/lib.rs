//! Load generators of pre-encoded requests.
