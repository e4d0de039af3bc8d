//! `evidence`: a run as a bundle that others can verify without us.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_engine::verify_evidence;

use super::Edge;
use crate::attacks;
use crate::dirs::shown;
use crate::exit::{DONE, Ending};
use crate::output::objects::{EvidenceObject, ExportObject, VerifiedObject};
use crate::output::{Screen, Tone};
use crate::wiring;

/// Export a run's evidence, or verify a bundle offline
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a run's evidence as a signed bundle: up to its last signed head
    ///
    /// A result that `redteam --keep` kept goes in if it is about the same program and kernel, and
    /// about sessions by the same rules as the run's.
    Export {
        /// The run [default: the last one of the repository in the current directory]
        run: Option<RunId>,
        /// Directory to write, which must not be there yet
        #[arg(short, long = "output", value_name = "DIR")]
        output: PathBuf,
    },
    /// Verify a bundle, without a network and without the runtime that made it
    Verify {
        /// The bundle
        dir: PathBuf,
        /// The key to trust: a PEM file, or the 64 hexadecimal digits of its id [default: what
        /// config.toml says]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    match args.command {
        Command::Export { run, output } => export(edge, run, &edge.cwd.join(output)).await,
        Command::Verify { dir, key } => verify(edge, &edge.cwd.join(dir), key),
    }
}

async fn export(edge: &Edge, run: Option<RunId>, dir: &Path) -> Result<Ending, Problem> {
    let engine = edge.reader().await?;
    let run = edge.run(&engine, run).await?;
    let state = edge.dirs.state.clone();
    let attacks = wiring::blocking(move || attacks::kept(&state)).await?;
    engine.export_evidence(&run, dir.to_owned(), attacks).await?;
    let object = ExportObject { run, dir: shown(dir) };
    edge.screen.show(&object, |_, object| {
        format!("{}\nverify     cofferdam evidence verify {}\n", object.dir, object.dir)
    })?;
    Ok(DONE)
}

fn verify(edge: &Edge, dir: &Path, key: Option<String>) -> Result<Ending, Problem> {
    let key = match key {
        Some(key) => Some(key),
        None => edge.configuration.config()?.trusted_key,
    };
    let key = key.map(|key| key_text(edge, key)).transpose()?;
    let report = verify_evidence(dir, key.as_deref())?;
    let checks = report.checks.into_iter().map(|check| VerifiedObject {
        name: check.name.to_owned(),
        ok: check.ok,
        detail: check.detail,
    });
    let object = EvidenceObject {
        ok: report.ok,
        signer_known: report.signer_known,
        key_id: report.key_id,
        checks: checks.collect(),
    };
    edge.screen.show(&object, text)?;
    Ok(if object.ok { DONE } else { Ending::Outcome(Code::EvidenceInvalid.outcome()) })
}

/// The key itself, where a file with it is named.
fn key_text(edge: &Edge, key: String) -> Result<String, Problem> {
    let is_id = key.len() == 64 && key.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id {
        return Ok(key);
    }
    let file = edge.cwd.join(&key);
    std::fs::read_to_string(&file).map_err(|error| {
        let cause = error.to_string().to_lowercase();
        Problem::new(Code::RequestInvalid, format!("{}: {cause}", shown(&file)))
            .at(Some("key".to_owned()))
            .hint("name a PEM file with a public key, or the 64 hexadecimal digits of a key id")
    })
}

fn text(screen: &Screen, object: &EvidenceObject) -> String {
    let mut out = String::new();
    for check in &object.checks {
        let (tone, mark) = if check.ok { (Tone::Good, "holds") } else { (Tone::Bad, "fails") };
        let detail = cofferdam_contract::text::escape_bytes(check.detail.as_bytes());
        out.push_str(&format!("{}  {}: {detail}\n", screen.tone(tone, mark), check.name));
    }
    let signer = match (object.signer_known, &object.key_id) {
        (true, Some(key)) => format!("signed by the trusted key {key}"),
        (_, Some(key)) => format!("signer unknown: nobody vouched for the key {key}"),
        (_, None) => "not signed".to_owned(),
    };
    let verdict = match object.ok {
        true => screen.tone(Tone::Good, "the bundle is what was signed"),
        false => screen.tone(Tone::Bad, "the bundle is not what was signed"),
    };
    format!("{out}{signer}\n{verdict}\n")
}
