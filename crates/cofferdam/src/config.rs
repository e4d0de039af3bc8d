//! What the operator configured: `config.toml` and `profiles/NAME.toml`, read strictly.
//!
//! An unknown field is an error with file and line, never ignored. The files are the operator's
//! own; nothing of a repository is read here.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cofferdam_contract::problem::{Code, Problem};
use cofferdam_policy::{BUILTINS, Profile, builtin};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dirs::shown;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// The file beside `profiles/`.
const FILE: &str = "config.toml";

/// `config.toml`. Every field has a default, so that no file is needed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The profile of commands that are given no `--profile`.
    pub(crate) profile: String,
    /// Names of environment variables whose values are kept out of the journal, in addition to
    /// those whose names look like a credential (`TOKEN`, `SECRET`, `PASSWORD`, `KEY` …).
    pub(crate) redact_environment: BTreeSet<String>,
    /// Evidence is verified against this key where no `--key` is given: 64 hexadecimal digits of a
    /// key id, or the path of a PEM file.
    pub(crate) trusted_key: Option<String>,
    /// Have the kernel's audit tell of what Landlock refuses in sessions. It takes root and Linux
    /// 6.15, turns the host's audit on while sessions may be opened, and leaves it as it was.
    pub(crate) landlock_audit: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profile: "assist".to_owned(),
            redact_environment: BTreeSet::new(),
            trusted_key: None,
            landlock_audit: false,
        }
    }
}

/// A file of configuration and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) struct FileReport {
    /// The file.
    pub(crate) file: String,
    /// Whether it can be used.
    pub(crate) ok: bool,
    /// Line of the fault, from 1, where it is known.
    pub(crate) line: Option<usize>,
    /// What is wrong; absent where nothing is.
    pub(crate) detail: Option<String>,
}

/// The configuration directory.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    dir: PathBuf,
}

impl Configuration {
    /// The configuration in `dir`, which need not be there.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// `config.toml`, or the defaults where there is none.
    ///
    /// # Errors
    /// `configuration_invalid` with file and line.
    pub(crate) fn config(&self) -> Result<Config, Problem> {
        let file = self.dir.join(FILE);
        match read(&file)? {
            None => Ok(Config::default()),
            Some(text) => toml::from_str(&text).map_err(|error| {
                let line = error.span().map(|span| line_at(&text, span.start));
                invalid(&file, line, error.message())
            }),
        }
    }

    /// The profile of that name: the operator's file, else the built-in one.
    ///
    /// # Errors
    /// `configuration_invalid`, with file and line where a file is at fault.
    pub(crate) fn profile(&self, name: &str) -> Result<Profile, Problem> {
        if !is_name(name) {
            let detail = "a profile name is letters, digits, dots, dashes and underscores";
            return Err(Problem::new(Code::RequestInvalid, detail).at(Some("profile".to_owned())));
        }
        let file = self.profile_file(name);
        match read(&file)? {
            Some(text) => parse_profile(&file, &text),
            None => builtin(name).map_err(|_| {
                let known = self.profiles().join(", ");
                Problem::new(Code::ConfigurationInvalid, format!("there is no profile {name}"))
                    .at(Some("profile".to_owned()))
                    .hint(format!("the profiles are: {known}; add one as {}", shown(&file)))
            }),
        }
    }

    fn profile_file(&self, name: &str) -> PathBuf {
        self.dir.join("profiles").join(format!("{name}.toml"))
    }

    /// The names of all profiles, sorted.
    pub(crate) fn profiles(&self) -> Vec<String> {
        let mut names: BTreeSet<String> =
            BUILTINS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let entries = std::fs::read_dir(self.dir.join("profiles"));
        for entry in entries.into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().ok();
            let name = name.as_deref().and_then(|name| name.strip_suffix(".toml"));
            names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
        }
        names.into_iter().collect()
    }

    /// Reads every file there is and says what is wrong with each.
    pub(crate) fn check(&self) -> Vec<FileReport> {
        let own = |name: &String| self.profile_file(name).symlink_metadata().is_ok();
        let config = self.dir.join(FILE);
        let mut reports = vec![];
        if config.symlink_metadata().is_ok() {
            let fault = self.config().and_then(|it| self.profile(&it.profile).map(|_| it)).err();
            reports.push(report(&config, fault));
        }
        for name in self.profiles().iter().filter(|name| own(name)) {
            reports.push(report(&self.profile_file(name), self.profile(name).err()));
        }
        reports
    }
}

fn report(file: &Path, fault: Option<Problem>) -> FileReport {
    let line = fault.as_ref().and_then(|problem| {
        let rest = problem.detail.strip_prefix(&format!("{}:", shown(file)))?;
        rest.split(':').next()?.parse().ok()
    });
    FileReport {
        file: shown(file),
        ok: fault.is_none(),
        line,
        detail: fault.map(|problem| problem.detail),
    }
}

fn parse_profile(file: &Path, text: &str) -> Result<Profile, Problem> {
    Profile::parse(text).map_err(|error| {
        let syntax = text.parse::<toml::Table>().err().and_then(|error| error.span());
        let problem = Problem::from(error);
        let line = match syntax {
            Some(span) => Some(line_at(text, span.start)),
            None => problem.field.as_deref().and_then(|field| line_of(text, field)),
        };
        let field = problem.field.clone();
        invalid(file, line, &problem.detail).at(field)
    })
}

fn invalid(file: &Path, line: Option<usize>, detail: &str) -> Problem {
    let place = match line {
        Some(line) => format!("{}:{line}", shown(file)),
        None => shown(file),
    };
    let detail = cofferdam_contract::text::escape_bytes(detail.trim_end().as_bytes());
    Problem::new(Code::ConfigurationInvalid, format!("{place}: {detail}"))
}

/// The whole file, or `None` where there is none. Never waits for a FIFO.
fn read(file: &Path) -> Result<Option<String>, Problem> {
    let refuse = |detail: String| Err(invalid(file, None, &detail));
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
    let options = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(nonblocking).unwrap_or(0))
        .open(file);
    let opened = match options {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return refuse(error.to_string().to_lowercase()),
    };
    if !opened.metadata().is_ok_and(|found| found.is_file()) {
        return refuse("it is not a file".to_owned());
    }
    let mut text = String::new();
    match opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => refuse("it has over 256 KiB".to_owned()),
        Ok(_) => Ok(Some(text)),
        Err(error) => refuse(error.to_string().to_lowercase()),
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// The line on which the last part of a dotted field is assigned or opened as a table.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let last = field.rsplit('.').next()?;
    let assigns = |line: &str| {
        let line = line.trim_start();
        let key = line.split(['=', ']']).next().unwrap_or_default();
        let key = key.trim_matches(|c: char| c.is_whitespace() || "[\"'".contains(c));
        !line.starts_with('#') && key.rsplit('.').next() == Some(last)
    };
    text.lines().position(assigns).map(|index| index + 1)
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::{Config, Configuration};

    fn with(files: &[(&str, &str)]) -> (tempfile::TempDir, Configuration) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("profiles")).unwrap();
        for (name, text) in files {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        let configuration = Configuration::new(temp.path().to_owned());
        (temp, configuration)
    }

    #[test]
    fn no_file_means_the_defaults() {
        let (_temp, configuration) = with(&[]);
        assert_eq!(configuration.config().unwrap(), Config::default());
        assert_eq!(configuration.profiles(), ["assist", "autonomous", "flat"]);
        assert!(configuration.profile("assist").is_ok());
        assert_eq!(configuration.check(), []);
    }

    #[test]
    fn an_unknown_field_is_refused_with_file_and_line() {
        let (_temp, configuration) = with(&[
            ("config.toml", "profile = \"mine\"\n\nprofil = \"x\"\n"),
            ("profiles/mine.toml", "description = \"x\"\n[limits]\npids = 3\nbytes = 4\n"),
            ("profiles/syntax.toml", "description = \"x\"\n= 4\n"),
        ]);
        let config = configuration.config().unwrap_err();
        assert!(config.detail.contains("config.toml:3: "), "{config:?}");
        let profile = configuration.profile("mine").unwrap_err();
        assert!(profile.detail.contains("mine.toml:4: "), "{profile:?}");
        let syntax = configuration.profile("syntax").unwrap_err();
        assert!(syntax.detail.contains("syntax.toml:2: "), "{syntax:?}");
        let lines: Vec<_> = configuration.check().iter().map(|it| (it.ok, it.line)).collect();
        assert_eq!(lines, [(false, Some(3)), (false, Some(4)), (false, Some(2))]);
    }

    #[test]
    fn a_profile_name_is_no_path() {
        let (_temp, configuration) = with(&[]);
        for name in ["../config", "a/b", "", ".hidden", "-x", "a\0b"] {
            assert!(configuration.profile(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_fifo_does_not_make_it_wait() {
        let (temp, configuration) = with(&[]);
        let fifo = temp.path().join("config.toml");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        assert!(configuration.config().unwrap_err().detail.contains("not a file"));
    }
}
