//! The patterns of event-driven systems, over an embedded broker or a served one.
