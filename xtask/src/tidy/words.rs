//! Words that no tracked file holds.

use super::Offence;
use super::project::Project;

/// Words of a kind that says: this is not done. Spelled so that this file does not hold them.
const UNFINISHED: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// Beginnings of paths that only one machine has, and what may follow one of them: names that
/// stand for any user.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/tm", "p/.tmp")];
const ANY_USER: &[&str] = &["user", "agent", "me", "new", "someone"];

/// Notes about work that is left.
pub(crate) fn unfinished(project: &Project) -> Vec<Offence> {
    find(project, |line| {
        let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        let word = words.into_iter().find(|word| UNFINISHED.contains(word))?;
        Some(Fault {
            rule: "unfinished",
            fault: format!("a note that something is left: {word}"),
            remedy: "do it, or write an issue",
        })
    })
}

/// Paths of the machine that a file was written on.
pub(crate) fn machine_paths(project: &Project) -> Vec<Offence> {
    let root = project.root.display().to_string();
    // A project at the top of the file tree has a name that may well stand for something else.
    let root = (project.root.components().count() > 2).then_some(root);
    find(project, |line| {
        let own = root.as_deref().filter(|root| line.contains(root));
        let path = own.or_else(|| MACHINE_PATHS.iter().copied().find(|path| names(line, path)))?;
        Some(Fault {
            rule: "machine-path",
            fault: format!("a path of one machine: {path}…"),
            remedy: "make it relative, or take /home/user for any user",
        })
    })
}

/// Whether a line holds a path that begins so and goes on with a name that is not a stand-in.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let after = &line[at + path.len()..];
        let end = after.find(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)));
        let name = &after[..end.unwrap_or(after.len())];
        !name.is_empty() && !ANY_USER.contains(&name)
    })
}

struct Fault {
    rule: &'static str,
    fault: String,
    remedy: &'static str,
}

fn find(project: &Project, judge: impl Fn(&str) -> Option<Fault>) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in &project.files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(Fault { rule, fault, remedy }) = judge(line) {
                let (path, name) = (file.path.clone(), String::new());
                offences.push(Offence { path, line: at + 1, rule, name, fault, remedy });
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::super::fixture::project;
    use super::*;

    fn page(text: &str) -> Project {
        project(&[("docs/page.md", text)])
    }

    #[test]
    fn a_note_about_work_that_is_left_offends() {
        for word in UNFINISHED {
            assert_eq!(unfinished(&page(&format!("fine\nthis // {word}: more\n")))[0].line, 2);
            let small = word.to_lowercase();
            assert_eq!(unfinished(&page(&format!("{small} {word}S {word}_S\n"))), []);
        }
    }

    #[test]
    fn a_path_of_one_machine_offends() {
        for path in MACHINE_PATHS {
            assert_eq!(machine_paths(&page(&format!("in {path}a1B2/x\n"))).len(), 1, "{path}");
        }
        assert_eq!(machine_paths(&page("see /where/it/lies/docs\n")).len(), 1);
    }

    #[test]
    fn paths_that_every_machine_has_do_not() {
        let any = concat!("/ho", "me/user/a and /ho", "me/ and /ho", "me/$USER and /tmp/x\n");
        assert_eq!(machine_paths(&page(any)), []);
    }
}
