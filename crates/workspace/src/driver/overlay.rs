//! A writable layer over the shared base: opening it does not depend on the number of files.

use cofferdam_contract::mount::{CarryMount, WorkspaceMount};

use super::{Driver, Site};
use crate::beneath::Tree;
use crate::error::WorkspaceError;
use crate::fill::Filler;
use crate::make_dir;
use crate::usage::{Usage, usage};

pub(super) struct Overlay;

impl Overlay {
    fn carries(site: &Site<'_>) -> Vec<CarryMount> {
        let place = |at: usize| site.dir.join("carries").join(at.to_string());
        let mount = |(at, carry): (usize, &crate::Carry)| CarryMount {
            path: carry.path.clone(),
            lower: carry.source.clone(),
            upper: place(at).join("upper"),
            work: place(at).join("work"),
        };
        site.carry.iter().enumerate().map(mount).collect()
    }
}

impl Driver for Overlay {
    fn create(&self, site: &Site<'_>) -> Result<(), WorkspaceError> {
        let upper = site.dir.join(self.layer());
        make_dir(&upper, 0o755)?;
        make_dir(&site.dir.join("work"), 0o700)?;
        for carry in Self::carries(site) {
            make_dir(&carry.upper, 0o755)?;
            make_dir(&carry.work, 0o700)?;
        }
        let upper = crate::open_dir(&upper)?;
        let filler = Filler { layer: &upper, lower: Some(site.base) };
        for carry in site.carry {
            filler.directory(carry.path.as_bytes())?;
        }
        Ok(())
    }

    fn layer(&self) -> &'static str {
        "upper"
    }

    fn hides_base(&self) -> bool {
        false
    }

    fn mount(&self, site: &Site<'_>) -> WorkspaceMount {
        WorkspaceMount::Overlay {
            lowers: site.base_layers.to_vec(),
            upper: site.dir.join(self.layer()),
            work: site.dir.join("work"),
            carries: Self::carries(site),
        }
    }

    fn usage(&self, site: &Site<'_>, layer: &Tree) -> Result<Usage, WorkspaceError> {
        let carried = Self::carries(site).into_iter().map(|carry| carry.upper);
        carried
            .map(|upper| crate::open_dir(&upper).map(|tree| usage(&tree)))
            .try_fold(usage(layer), |sum, next| Ok(sum.plus(next?)))
    }
}
