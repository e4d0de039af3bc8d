//! The boundary, tried out and attacked.

mod calls;
mod support;
