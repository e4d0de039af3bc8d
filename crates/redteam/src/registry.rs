//! Every probe, by class.
//!
//! Must never know more of a probe than its line says.

use cofferdam_contract::capability::WallName;

use crate::classes::{
    credentials, host, kernel, neighbours, network, persistence, read, resources, write,
};
use crate::probe::{Class, Probe};

/// The classes in order, with their probes.
pub(crate) const ALL: &[(Class, &[Probe])] = &[
    (Class::FilesystemRead, read::PROBES),
    (Class::FilesystemWrite, write::PROBES),
    (Class::HostParsing, host::PROBES),
    (Class::Kernel, kernel::PROBES),
    (Class::Network, network::PROBES),
    (Class::Credentials, credentials::PROBES),
    (Class::Resources, resources::PROBES),
    (Class::CrossSession, neighbours::PROBES),
    (Class::Persistence, persistence::PROBES),
];

/// A few of each class that need little: a quick look whether the walls are there at all.
pub(crate) const QUICK: &[&str] = &[
    "read.absolute",
    "read.base-link",
    "read.bind",
    "write.create",
    "write.tool",
    "write.base",
    "host.post-checkout",
    "host.clean",
    "kernel.users",
    "kernel.mount",
    "kernel.trace",
    "kernel.kill",
    "kernel.capabilities",
    "network.loopback",
    "network.abstract",
    "network.tcp",
    "credentials.aws",
    "credentials.environment",
    "credentials.key",
    "resources.processes",
    "resources.memory",
    "neighbour.tmp",
    "neighbour.server",
    "left.home",
    "left.daemon",
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
    /// The wall that tells it; where it is not enforced, it need not arrive.
    pub teller: Option<WallName>,
    /// The wall without which there may be nothing to attack, or nothing to hold it.
    pub without: Option<WallName>,
}

/// Every probe, in order.
pub fn listed() -> Vec<Listed> {
    let of = |class: &Class, probe: &Probe| Listed {
        class: *class,
        name: probe.name,
        tries: probe.tries,
        wall: probe.wall,
        told: probe.told,
        teller: probe.teller,
        without: probe.requires.or(probe.place),
    };
    ALL.iter().flat_map(|(class, all)| all.iter().map(|probe| of(class, probe))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_quick_ones_are_probes_of_every_class() {
        assert!(super::QUICK.iter().all(|name| super::find(name).is_some()));
        for (class, probes) in super::ALL {
            let quick = probes.iter().filter(|probe| super::QUICK.contains(&probe.name));
            assert!(quick.count() >= 2, "{class:?}");
        }
    }

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
