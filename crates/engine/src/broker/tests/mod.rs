//! Stories of the broker over a simulated disk.

mod admin;
mod dead_letters;
mod delivery;
mod durability;
mod lifetime;
mod rig;
mod routes;
mod rules;
mod streams;
