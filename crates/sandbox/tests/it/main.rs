//! The boundary, tried out and attacked, as root and as an ordinary user.

mod calls;
mod deaths;
mod limits;
mod refused;
mod rootless;
mod strays;
mod support;
mod walls;
