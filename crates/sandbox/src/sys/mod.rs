//! System calls that no safe crate wraps as needed here.
