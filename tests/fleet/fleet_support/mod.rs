//! What tests of the fleet's core share: a world for generated histories, and scripted scenarios.

pub mod bugs;
pub mod calls;
pub mod cloud;
pub mod cluster;
pub mod environment;
pub mod invariants;
pub mod plan;
pub mod rng;
pub mod script;
pub mod world;
