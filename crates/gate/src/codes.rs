//! Every code that a finding can have, with its weight, whether it escalates, and the remedy.
//!
//! The one catalogue: checks name a code and a place, never a severity, so that the table that
//! decides is the table that is read.

use cofferdam_contract::check::{Finding, Severity};
use cofferdam_contract::path::RepoPath;
use cofferdam_contract::text::escape_bytes;

/// Longest message of a finding, in characters.
const MESSAGE_CHARS_MAX: usize = 500;

macro_rules! finding_codes {
    ($($name:ident, $text:literal, $severity:ident, $escalates:literal, $hint:literal;)*) => {
        /// What a finding is about.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum FindingCode {
            $(
                #[doc = $hint]
                $name,
            )*
        }

        impl FindingCode {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable code.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// How much it weighs.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// Whether it takes a person with more authority.
            pub fn escalates(self) -> bool {
                match self { $(Self::$name => $escalates,)* }
            }

            /// What may be done about it.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

finding_codes! {
    OutsideAllowedPaths, "outside_allowed_paths", Error, false, "leave the path as it is, or ask the operator to widen paths.allowed";
    ProtectedPath, "protected_path", Warning, true, "a person with the authority to change it must look at it";
    LeftOut, "left_out", Warning, true, "git cannot hold it or it is over a bound; see that the change is whole without it";
    NotScanned, "not_scanned", Warning, true, "the file is too large to be looked into; look at it by hand";
    RecordIncomplete, "record_incomplete", Warning, true, "refusals are missing from the record: judge the change without relying on it, or run again";
    TooManyFiles, "too_many_files", Error, false, "split the change";
    TooManyLines, "too_many_lines", Error, false, "split the change";
    FileTooLarge, "file_too_large", Error, false, "keep large files out of the repository";
    KindNotAllowed, "kind_not_allowed", Error, false, "leave it out, or ask the operator to widen change.kinds";
    SymlinkOutside, "symlink_outside", Error, false, "point the link to something inside the repository";
    SymlinkChanged, "symlink_changed", Warning, false, "see where the link points";
    ExecutableAdded, "executable_added", Warning, false, "see that the file is meant to be executed";
    SubmoduleChanged, "submodule_changed", Warning, true, "review the submodule's commits where it lives";
    BinaryChanged, "binary_changed", Warning, false, "the content does not show in the diff; see where it comes from";
    CaseClash, "case_clash", Error, false, "rename one of the two: they are one file where case is ignored";
    GitDirectoryPath, "git_directory_path", Error, false, "rename it: some file systems take it for git's own directory (CVE-2014-9390)";
    SecretAdded, "secret_added", Error, false, "remove it, and revoke it if it is real: it was in a session's reach";
    DependencyNotAllowed, "dependency_not_allowed", Error, false, "use a dependency that the profile allows, or ask the operator";
    DependencyAdded, "dependency_added", Warning, false, "see that the dependency is wanted and is the one that is meant";
    RegistryNotAllowed, "registry_not_allowed", Error, false, "take the package from a registry that the profile allows";
    LockfileStale, "lockfile_stale", Error, false, "change the lock file together with the manifest";
    LockfileRemoved, "lockfile_removed", Warning, true, "see that nothing is meant to be pinned any more";
    ManifestUnreadable, "manifest_unreadable", Error, false, "correct the file: its dependencies cannot be known";
    LockfileNotUnderstood, "lockfile_not_understood", Warning, true, "look at it by hand: what it pins is not checked";
    BidirectionalControl, "bidirectional_control", Error, false, "remove it: the code does not read as it runs (CVE-2021-42574)";
    InvisibleCharacter, "invisible_character", Warning, true, "remove it, or see why it must be there";
    ControlCharacter, "control_character", Warning, true, "remove it: it changes what a terminal shows";
    MixedScript, "mixed_script", Warning, true, "write the word in one script: letters that look alike are not the same";
    DeceptivePath, "deceptive_path", Error, false, "rename it: the name does not show as it is";
    RunsOnHost, "runs_on_host", Warning, true, "this runs on the machine of whoever opens, installs or builds the repository";
    SteersAgents, "steers_agents", Warning, false, "agents take this as instructions; read it as such";
    CommandFailed, "command_failed", Error, false, "read the output with cofferdam show, correct the change";
    CommandFailedOptional, "command_failed_optional", Warning, false, "read the output with cofferdam show";
    CommandFailedBefore, "command_failed_before", Warning, false, "it fails without this change too, so it cannot tell what the change breaks";
    CommandNotRun, "command_not_run", Warning, true, "see that the program is there in the session and that its time-out is long enough";
    TestFlaky, "test_flaky", Warning, true, "it failed once and passed once on the same tree; see which is true";
    ScannerError, "scanner_error", Error, false, "correct what the scanner points to";
    ScannerWarning, "scanner_warning", Warning, false, "see what the scanner points to";
    ScannerNote, "scanner_note", Note, false, "worth knowing";
    ScannerUnreadable, "scanner_unreadable", Warning, true, "the scanner must write sarif 2.1.0 to standard output";
}

impl FindingCode {
    /// A finding of this code by `check`; `message` is escaped and cut.
    pub fn at(
        self,
        check: &str,
        path: Option<&RepoPath>,
        line: Option<u64>,
        message: impl AsRef<str>,
    ) -> Finding {
        let message = escape_bytes(message.as_ref().as_bytes());
        Finding {
            check: check.to_owned(),
            code: self.as_str().to_owned(),
            severity: self.severity(),
            path: path.cloned(),
            line,
            message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
            hint: self.hint().to_owned(),
        }
    }
}

/// Whether findings of this code take a person with more authority. A code that is not in the
/// catalogue does: fail closed.
pub fn escalates(code: &str) -> bool {
    FindingCode::ALL.iter().find(|it| it.as_str() == code).is_none_or(|it| it.escalates())
}
