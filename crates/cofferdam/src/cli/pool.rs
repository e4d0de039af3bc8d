//! `pool`: a file system for workspaces that are snapshots.

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::counted;

use super::Edge;
use crate::exit::{DONE, Ending};
use crate::output::Screen;
use crate::output::objects::PoolObject;
use crate::pool::HostPool;
use crate::wiring::blocking;

/// Keep workspaces as snapshots in a file system of their own (root)
///
/// Commands that open or look at many files run in a snapshot as fast as outside; in an overlay
/// they cost more. Sessions that are opened from then on are in the pool. After a boot it is
/// created anew.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make the pool, or after a boot make it ready again
    Create {
        /// Bytes, or with K, M, G or T; 1G at least [default: as before, else a quarter of what is free, at most 64G]
        #[arg(long, value_parser = bytes)]
        size: Option<u64>,
    },
    /// Make the pool larger, with sessions in it
    Grow {
        /// Bytes, or with K, M, G or T
        #[arg(long, value_parser = bytes)]
        size: u64,
    },
    /// Tell whether there is a pool, what is in it, and whether it can be relied on
    ///
    /// Ends with 6 where none can be used.
    Check,
    /// Unmount the pool and give its space back
    Remove,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    edge.dirs.prepare()?;
    let pool = HostPool::of(&edge.dirs);
    let is_check = matches!(args.command, Command::Check);
    let object = blocking(move || {
        let mut already = false;
        match args.command {
            Command::Create { size } => already = pool.create(size)?,
            Command::Grow { size } => pool.grow(size)?,
            Command::Check => {}
            Command::Remove => pool.remove()?,
        }
        Ok(PoolObject { already, ..pool.look()? })
    })
    .await?;
    edge.screen.show(&object, text)?;
    let unusable = is_check && !object.ok;
    Ok(if unusable { Ending::Outcome(Code::BoundaryUnavailable.outcome()) } else { DONE })
}

fn text(_: &Screen, pool: &PoolObject) -> String {
    if !pool.mounted {
        return format!("no pool: workspaces are overlays\n  {}\n", pool.remedy);
    }
    let size = pool.size_bytes.unwrap_or(0) >> 20;
    let free = pool.free_bytes.unwrap_or(0) >> 20;
    let path = &pool.path;
    let (bases, sessions) = (counted(pool.bases, "base"), counted(pool.sessions, "session"));
    let already = if pool.already { ", which was there already" } else { "" };
    let health = match pool.ok {
        true => String::new(),
        false => format!("  it has had errors: {}\n", pool.remedy),
    };
    format!(
        "pool at {path}{already}: {free} of {size} MiB free, {bases}, {sessions}\n\
         {health}"
    )
}

fn bytes(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let wrong = || format!("{text} is no size: write 512M, 16G or the like");
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_numbers_with_a_unit_or_none() {
        assert_eq!(bytes("16G"), Ok(16 << 30));
        assert_eq!(bytes("512M"), Ok(512 << 20));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in ["", "G", "-1G", "1.5G", "16GB", "99999999999T", "é"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
