//! Every probe, by class.
//!
//! Must never know more of a probe than its line says.

use crate::classes::{credentials, kernel, network, read, write};
use crate::probe::{Class, Probe};

/// The classes in order, with their probes.
pub(crate) const ALL: &[(Class, &[Probe])] = &[
    (Class::FilesystemRead, read::PROBES),
    (Class::FilesystemWrite, write::PROBES),
    (Class::Kernel, kernel::PROBES),
    (Class::Network, network::PROBES),
    (Class::Credentials, credentials::PROBES),
];

/// The probe of that name.
pub(crate) fn find(name: &str) -> Option<&'static Probe> {
    ALL.iter().flat_map(|(_, probes)| probes.iter()).find(|probe| probe.name == name)
}

/// A probe as the reference shows it.
pub struct Listed {
    /// Its class.
    pub class: Class,
    /// Stable name.
    pub name: &'static str,
    /// What is tried.
    pub tries: &'static str,
    /// What should hold it.
    pub wall: &'static str,
    /// The rule of the denial that must arrive.
    pub told: Option<&'static str>,
}

/// Every probe, in order.
pub fn listed() -> Vec<Listed> {
    let of = |class: &Class, probe: &Probe| Listed {
        class: *class,
        name: probe.name,
        tries: probe.tries,
        wall: probe.wall,
        told: probe.told,
    };
    ALL.iter().flat_map(|(class, all)| all.iter().map(|probe| of(class, probe))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_plain() {
        let mut names: Vec<_> = super::listed().iter().map(|it| it.name).collect();
        let plain = |name: &str| {
            name.bytes().all(|b| b.is_ascii_lowercase() || b".-0123456789".contains(&b))
        };
        assert!(names.iter().all(|name| plain(name)), "{names:?}");
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
