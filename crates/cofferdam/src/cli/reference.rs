//! `__reference`: the generated part of the documentation, as Markdown: flags, exit codes, error
//! codes, JSON objects, configuration.

use std::fmt::Write as _;

use clap::CommandFactory as _;
use cofferdam_contract::problem::{Code, Outcome, Problem};
use cofferdam_policy::{BUILTINS, Profile};
use schemars::{JsonSchema, schema_for};

use super::{Cli, Edge};
use crate::config::Config;
use crate::exit::{
    DONE, ESCAPED, EXEC_FAILED, EXEC_NOT_STARTED, EXEC_SIGNALED, EXEC_TIMED_OUT, Ending,
    LEFT_AT_ONCE,
};
use crate::output::objects as of;

/// Print a part of the reference as Markdown
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which part
    #[arg(value_enum)]
    part: Part,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Part {
    Commands,
    Exit,
    Objects,
    Configuration,
    Redteam,
}

pub(super) async fn execute(args: Args, edge: &Edge) -> Result<Ending, Problem> {
    let mut out = String::new();
    match args.part {
        Part::Commands => commands(&mut out),
        Part::Exit => exit_codes(&mut out),
        Part::Objects => objects(&mut out),
        Part::Configuration => configuration(&mut out),
        Part::Redteam => attacks(&mut out),
    }
    edge.screen.text(&out)?;
    Ok(DONE)
}

fn commands(out: &mut String) {
    let mut root = Cli::command().term_width(100);
    root.build();
    let _ = writeln!(out, "# Commands\n\nEvery command takes `--json`.");
    command(out, &mut root, "");
}

fn command(out: &mut String, command: &mut clap::Command, parents: &str) {
    let name = format!("{parents}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let _ = writeln!(out, "\n## `{name}`\n\n```text\n{}\n```", help.trim_end());
    let parents = format!("{name} ");
    for sub in command.get_subcommands_mut().filter(|sub| !sub.is_hide_set()) {
        if sub.get_name() != "help" {
            self::command(out, sub, &parents);
        }
    }
}

fn exit_codes(out: &mut String) {
    let _ = writeln!(out, "# Exit codes\n\n| code | outcome | error codes |\n|---|---|---|");
    for outcome in Outcome::ALL {
        let codes: Vec<_> = Code::ALL
            .iter()
            .filter(|code| code.outcome() == *outcome)
            .map(|code| format!("`{}`", code.as_str()))
            .collect();
        let name = serde_json::to_value(outcome).unwrap_or_default();
        let name = name.as_str().unwrap_or_default().replace('_', " ");
        let _ = writeln!(out, "| {} | {name} | {} |", outcome.exit_code(), codes.join(" "));
    }
    let _ = writeln!(
        out,
        "| {LEFT_AT_ONCE} | left at once | a second signal while `run` was stopping its run |\n\n\
         `redteam` ends with {ESCAPED} if an attack succeeded, and with 1 if one could not be \
         decided or a denial that must be recorded was not."
    );
    let _ = writeln!(
        out,
        "\n`exec` and `session exec` end with the program's own code, or with:\n\n| code | meaning |\n|---|---|\n\
         | {EXEC_TIMED_OUT} | the call's time ran out |\n\
         | {EXEC_FAILED} | a refusal or failure of Cofferdam's own |\n\
         | {EXEC_NOT_STARTED} | the program could not be started |\n\
         | {EXEC_SIGNALED} + n | signal n ended the program |"
    );
    let _ = writeln!(out, "\n# Error codes\n\n| code | exit code | remedy |\n|---|---|---|");
    for code in Code::ALL {
        let exit = code.outcome().exit_code();
        let _ = writeln!(out, "| `{}` | {exit} | {} |", code.as_str(), code.hint());
    }
}

fn objects(out: &mut String) {
    let _ = writeln!(
        out,
        "# JSON objects\n\nWith `--json` a command prints one object on one line. A failure prints \
         a `Problem` instead. `events --follow --json` prints one event a line."
    );
    object::<cofferdam_engine::RunView>(out, "run, show, review, session end");
    object::<of::CommandObject>(out, "approve, reject, recheck, resume, stop, merge, rollback");
    object::<of::ListObject>(out, "list");
    object::<cofferdam_engine::GrantView>(out, "grant, revoke");
    object::<of::GrantsObject>(out, "grants");
    object::<of::EventsObject>(out, "events");
    object::<cofferdam_engine::DenialsView>(out, "denials");
    object::<of::DiffObject>(out, "diff, session diff");
    object::<of::ExecObject>(out, "exec, session exec");
    object::<of::StartObject>(out, "session start");
    object::<of::SessionsObject>(out, "session list");
    object::<of::DoctorObject>(out, "doctor");
    object::<cofferdam_redteam::Report>(out, "redteam");
    object::<of::EvidenceObject>(out, "evidence verify");
    object::<of::ExportObject>(out, "evidence export");
    object::<of::JournalObject>(out, "journal verify");
    object::<of::PruneObject>(out, "prune");
    object::<of::PoolObject>(out, "pool create|grow|check|remove");
    object::<of::ConfigObject>(out, "config show");
    object::<of::ConfigCheckObject>(out, "config check");
    object::<Profile>(out, "config show PROFILE");
    object::<of::OutputObject>(out, "show --output");
    object::<of::CompletionsObject>(out, "completions");
    object::<crate::demo::DemoObject>(out, "demo");
    object::<Problem>(out, "a failure");
}

fn object<T: JsonSchema>(out: &mut String, of: &str) {
    let schema = schema_for!(T).to_value();
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    let _ = writeln!(out, "\n## {of}\n\n```json\n{text}\n```");
}

fn attacks(out: &mut String) {
    let (listed, mut without) = (cofferdam_redteam::listed(), String::new());
    let _ = writeln!(
        out,
        "# Attacks of `cofferdam redteam`\n\nWhat each means, and how it is decided, is in \
         [The attacks that ship](../concepts/redteam.md). There are {}. A denial that is named must \
         be recorded; the others are unobserved by design, see [Denials](denials.md).",
        listed.len()
    );
    let mut class = None;
    for probe in listed {
        if class != Some(probe.class) {
            class = Some(probe.class);
            let _ = writeln!(
                out,
                "\n## `{}`\n\n| attack | tries | should be held by | denial |\n|---|---|---|---|",
                probe.class.name()
            );
        }
        let name = |wall| serde_json::to_value(wall).ok()?.as_str().map(str::to_owned);
        let mut denial = probe.told.map_or("–".to_owned(), |rule| format!("`{rule}`"));
        if let Some(wall) = probe.teller.and_then(name) {
            let _ = write!(denial, " where `{wall}` is enforced");
        }
        let _ = writeln!(out, "| `{}` | {} | {} | {denial} |", probe.name, probe.tries, probe.wall);
        if let Some(wall) = probe.without.and_then(name) {
            let _ = writeln!(without, "| `{}` | `{wall}` |", probe.name);
        }
    }
    let _ = writeln!(
        out,
        "\n## Where a wall is absent\n\nWithout these walls a session has nothing of the kind that \
         could be attacked, or nothing holds it: then the attack is skipped with what the capability \
         report says of the wall. None of these walls is enforced in sessions of the profile `flat`. \
         An ordinary user's have no device files of their own, and a limit of memory only with a \
         control group that was delegated.\n\n| attack | wall |\n|---|---|\n{}",
        without.trim_end()
    );
}

fn configuration(out: &mut String) {
    let _ = writeln!(out, "# Configuration\n\n## Directories\n");
    let _ = writeln!(out, "| what | variable | else | default |\n|---|---|---|---|");
    for (own, xdg, default, what) in crate::dirs::VARIABLES {
        let _ =
            writeln!(out, "| {what} | `{own}` | `${xdg}/cofferdam` | `~/{default}/cofferdam` |");
    }
    let config = toml::to_string_pretty(&Config::default()).unwrap_or_default();
    let _ =
        writeln!(out, "\n## config.toml\n\nThe defaults:\n\n```toml\n{}\n```", config.trim_end());
    table::<Config>(out);
    let _ = writeln!(
        out,
        "\n## profiles/NAME.toml\n\nA profile says `extends = \"assist\"`, `\"autonomous\"` or \
         `\"flat\"` (assist where it says nothing) and then only what is different. The built-in profiles:"
    );
    for (name, text) in BUILTINS {
        let _ = writeln!(out, "\n### {name}\n\n```toml\n{}\n```", text.trim_end());
    }
    let _ = writeln!(out, "\n### Fields\n");
    table::<Profile>(out);
}

/// The fields of a type with what its documentation says, tables within it included.
fn table<T: JsonSchema>(out: &mut String) {
    let schema = schema_for!(T).to_value();
    let _ = writeln!(out, "\n| field | meaning |\n|---|---|");
    rows(out, &schema, &schema, "");
}

fn rows(out: &mut String, root: &serde_json::Value, schema: &serde_json::Value, prefix: &str) {
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        let said = property.get("description").and_then(serde_json::Value::as_str);
        let said = said.unwrap_or_default().replace('\n', " ");
        let _ = writeln!(out, "| `{prefix}{name}` | {said} |");
        let inner = property.get("$ref").and_then(serde_json::Value::as_str);
        let inner = inner.and_then(|at| root.pointer(at.trim_start_matches('#')));
        if let Some(inner) = inner {
            rows(out, root, inner, &format!("{prefix}{name}."));
        }
    }
}
