//! What the boundary would be made of on this host, found by trying it, and how to get the rest.
//!
//! Each wall is put up once in a throwaway child, the way a session does it; nothing is concluded
//! from version numbers. Data out, no text for people but in details and remedies. Must never
//! change anything on the host.

mod probe;
mod requirements;
mod walls;

use std::ffi::OsStr;
use std::path::Path;

use cofferdam_contract::capability::Wall;

/// Something that the product needs or is better with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requirement {
    /// Short and stable, such as `user_namespaces`.
    pub name: &'static str,
    /// Whether it is met.
    pub ok: bool,
    /// Whether no session can be had without it.
    pub required: bool,
    /// What was found.
    pub detail: String,
    /// What to do; empty where it is met.
    pub remedy: String,
}

/// What the requirements are looked up with.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The user's `PATH`.
    pub path_var: &'a OsStr,
    /// This program, as the AppArmor profile must name it.
    pub executable: &'a Path,
    /// Where state is or will be kept.
    pub state: &'a Path,
    /// Least version of git.
    pub git_version_min: (u32, u32),
}

pub use requirements::overlay_in;

/// Every wall, in the order of `WallName`, as a session opened now would have it.
pub fn walls() -> Vec<Wall> {
    walls::all()
}

/// Every requirement; `required` ones first.
pub fn requirements(surroundings: &Surroundings<'_>) -> Vec<Requirement> {
    requirements::all(surroundings)
}

#[cfg(test)]
mod tests;
