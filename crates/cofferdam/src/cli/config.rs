//! `config`: what the operator configured, and whether it can be used.

use std::fmt::Write as _;

use clap::Subcommand;
use cofferdam_contract::problem::{Code, Problem};
use cofferdam_contract::text::escape_bytes;

use super::Edge;
use crate::dirs::shown;
use crate::exit::{DONE, Ending};
use crate::output::objects::{ConfigCheckObject, ConfigObject};
use crate::output::{Screen, Tone};

/// Check or show the configuration
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read every file of the configuration and say what is wrong, with its line
    Check,
    /// Show directories, settings and profiles, or one profile with everything that it says
    Show {
        /// A profile
        profile: Option<String>,
    },
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    match args.command {
        Command::Check => check(edge),
        Command::Show { profile: None } => show(edge),
        Command::Show { profile: Some(name) } => {
            let profile = edge.configuration.profile(&name)?;
            let text = toml::to_string_pretty(&profile)
                .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
            edge.screen.show(&profile, |_, _| text)?;
            Ok(DONE)
        }
    }
}

fn check(edge: &Edge) -> Result<Ending, Problem> {
    let files = edge.configuration.check();
    let object = ConfigCheckObject { ok: files.iter().all(|file| file.ok), files };
    edge.screen.show(&object, |screen, object| {
        let mut out = String::new();
        for file in &object.files {
            let text = match &file.detail {
                None => format!("{} {}", screen.tone(Tone::Good, "ok"), file.file),
                Some(detail) => {
                    let detail = escape_bytes(detail.as_bytes());
                    format!("{} {detail}", screen.tone(Tone::Bad, "wrong"))
                }
            };
            let _ = writeln!(out, "{text}");
        }
        if object.files.is_empty() {
            out.push_str("there are no files of configuration; the defaults are in effect\n");
        }
        out
    })?;
    let outcome =
        if object.ok { DONE } else { Ending::Outcome(Code::ConfigurationInvalid.outcome()) };
    Ok(outcome)
}

fn show(edge: &Edge) -> Result<Ending, Problem> {
    let object = ConfigObject {
        state_dir: shown(&edge.dirs.state),
        cache_dir: shown(&edge.dirs.cache),
        config_dir: shown(&edge.dirs.config),
        config: edge.configuration.config()?,
        profiles: edge.configuration.profiles(),
    };
    edge.screen.show(&object, text)?;
    Ok(DONE)
}

fn text(_: &Screen, object: &ConfigObject) -> String {
    let config = &object.config;
    let redacted: Vec<_> = config.redact_environment.iter().map(String::as_str).collect();
    format!(
        "state      {}\ncache      {}\nconfig     {}\nprofile    {}\nprofiles   {}\nredacted   {}\nkey        {}\n",
        object.state_dir,
        object.cache_dir,
        object.config_dir,
        escape_bytes(config.profile.as_bytes()),
        object.profiles.join(", "),
        escape_bytes(redacted.join(", ").as_bytes()),
        escape_bytes(config.trusted_key.as_deref().unwrap_or("none").as_bytes()),
    )
}
