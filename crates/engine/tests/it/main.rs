//! Stories of the engine over a simulated disk: what a client was told survives a power cut.

mod rig;
mod topics;
