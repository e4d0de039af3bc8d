//! The boundary, tried out and attacked, as root and as an ordinary user.

// What only tests call is a test too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod audit;
mod breaches;
mod calls;
mod cargo;
mod deaths;
mod flat;
mod grants;
mod layers;
mod limits;
mod masked;
mod refused;
mod refused_flat;
mod rootfs;
mod rootless;
mod runtimes;
mod soak;
mod spares;
mod strays;
mod support;
mod walls;
