//! What tests of the fleet's core share: a world for generated histories, and a script for single situations.

pub mod bugs;
pub mod calls;
pub mod cloud;
pub mod cluster;
pub mod environment;
pub mod plan;
pub mod promises;
pub mod rng;
pub mod script;
pub mod world;
