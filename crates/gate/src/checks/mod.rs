//! The checks, one file each; `registry` names them in their order.

pub mod commands;
pub mod complete;
pub mod dependencies;
pub mod detect;
pub mod host;
pub mod kinds;
pub mod protected;
pub mod scope;
pub mod secrets;
pub mod size;
pub mod unicode;
