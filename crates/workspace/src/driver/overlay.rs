//! A writable layer over the shared base: opening it does not depend on the number of files.

use cofferdam_contract::mount::WorkspaceMount;

use super::{Driver, Site, carries};
use crate::beneath::Tree;
use crate::error::WorkspaceError;
use crate::fill::Filler;
use crate::make_dir;
use crate::usage::{Usage, usage};

pub(super) struct Overlay;

impl Driver for Overlay {
    fn create(&self, site: &Site<'_>) -> Result<(), WorkspaceError> {
        let upper = site.dir.join(self.layer());
        make_dir(&upper, 0o755)?;
        make_dir(&site.dir.join("work"), 0o700)?;
        let upper = crate::open_dir(&upper)?;
        carries::create(site, &Filler { layer: &upper, lower: Some(site.base) })
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
            carries: carries::mounts(site),
        }
    }

    fn usage(&self, site: &Site<'_>, layer: &Tree) -> Result<Usage, WorkspaceError> {
        carries::usage_and(site, usage(layer))
    }
}
