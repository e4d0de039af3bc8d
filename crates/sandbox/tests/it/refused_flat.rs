//! The table of refusals in a flat session: `docs/reference/denials-flat.md`.

use cofferdam_sandbox::view::Bind;

use crate::flat;
use crate::masked::mask;
use crate::refused::{ROWS, attempt, errno, program_path, settle};
use crate::rootless::as_nobody;
use crate::support::{launcher, text};

const PAGE: &str = include_str!("../../../../docs/reference/denials-flat.md");
const PAGE_PATH: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/denials-flat.md");

/// Why nothing tells in a flat session, by the answer that the program gets.
fn silent_in_flat(operation: &str, number: &str) -> &'static str {
    match number {
        "1" => "the container's filter or the kernel, which answer before ours",
        "2" => "it is not there",
        "13" => "Landlock, or the mode of the file: both answer before anything that tells",
        "24" => {
            "the kernel tells nobody; who stays so is seen by the next look (`limit.open_files`)"
        }
        "38" => "there is no such call: programs try it and go without",
        _ => panic!("{operation} is answered by {number} in a flat session"),
    }
}

/// The child prints the rows: it is behind a mask, and another user where this one is root.
#[test]
fn a_flat_session_refuses_as_its_table_says() {
    let (mut command, _dir) = as_nobody();
    command.args(["--ignored", "--nocapture", "--exact", "refused_flat::rows_of_a_flat_session"]);
    mask(&mut command);
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    let rows: Vec<&str> = said.lines().filter(|line| line.starts_with("| ")).collect();
    assert_eq!(rows.len(), ROWS.len());
    let head = "| operation | answer | event |\n|---|---|---|\n";
    settle(PAGE_PATH, PAGE, &format!("{head}{}\n", rows.join("\n")));
}

#[test]
#[ignore = "the child of a_flat_session_refuses_as_its_table_says"]
fn rows_of_a_flat_session() {
    let launcher = launcher();
    let mut site = flat::site();
    site.spec.decoys = true;
    let program = program_path();
    site.spec.view.binds.push(Bind { source: program.clone(), target: program.clone() });
    let open = site.open(&launcher);
    let home = open.path("session/user");
    println!();
    for (operation, ..) in ROWS {
        let command = [program.to_str().unwrap(), operation];
        let tried = attempt(&open, operation, flat::in_workspace(&open, &command));
        let event = tried
            .event
            .unwrap_or_else(|| format!("silent: {}", silent_in_flat(operation, &tried.number)));
        let event = event.replace(home.to_str().unwrap(), "~");
        println!("| {operation} | {} | {event} |", errno(&tried.number));
    }
}
