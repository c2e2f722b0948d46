//! The embedded cloud of one machine.
