//! Parsers of foreign text, a file a format. They take bytes and give plain data; they know neither
//! policy nor changeset, bound what they build, and never panic (each is tested on noise).

pub mod cargo;
pub mod declared;
pub mod npm;
pub mod python;
pub mod sarif;
pub mod secrets;
