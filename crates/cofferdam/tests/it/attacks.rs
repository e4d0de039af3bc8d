//! Attacks on the invariants through the binary: real sessions, real git, a hostile agent or a
//! hostile repository. Each has a control: the same attempt where its guard is not, which succeeds
//! and is seen.

mod approval;
mod budgets;
mod closed;
mod credentials;
mod refusals;
mod repository;

use serde_json::Value;

use crate::world::{World, text};

/// Looks like a secret to nobody but those who know it.
const SECRET: &str = "planted-7f3a9c51d2";

/// A shell script in a fresh session: what it wrote, whatever came of it.
fn inside(world: &World, script: &str) -> String {
    let done = world.run(&["exec", "--", "sh", "-c", script]);
    format!("{}{}", done.stdout, done.stderr)
}

/// The same script outside, as whoever holds the walls back would see it.
fn outside(world: &World, script: &str) -> String {
    let like = world.command::<&str>(&[]);
    let environment = like.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).env_clear().envs(environment).current_dir(&world.cwd);
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// The newest run of the world, the ones behind sessions included.
fn newest(world: &World) -> String {
    let listed = world.run(&["list", "--json"]).object(0);
    text(&listed["runs"][0], "run").to_owned()
}

/// The bodies of the newest run's events of one type.
fn events(world: &World, kind: &str) -> Vec<Value> {
    let all = world.run(&["events", "--json", &newest(world)]).object(0);
    let bodies = all["events"].as_array().unwrap().iter().map(|event| &event["body"]);
    bodies.filter(|body| text(body, "type") == kind).map(|body| body["data"].clone()).collect()
}

/// Whether any file beneath `dir` holds this text.
fn holds(dir: &std::path::Path, needle: &str) -> Vec<std::path::PathBuf> {
    let found = |bytes: &[u8]| bytes.windows(needle.len()).any(|it| it == needle.as_bytes());
    let all = crate::world::contents(dir).into_iter();
    all.filter(|(_, bytes)| found(bytes)).map(|(path, _)| path).collect()
}
