//! Names that some file system takes for `.git`.
//!
//! A tree that holds one would put hooks and configuration into whoever checks it out
//! (CVE-2014-9390). The rules are git's own: case folding everywhere, what HFS+ ignores, and what
//! NTFS folds (short names, trailing dots and spaces, streams, backslashes).

/// Whether the path component `name` is `.git` to some file system.
pub(crate) fn is_git_name(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'\\').any(is_git_on_ntfs) || is_git_on_hfs(name)
}

fn is_git_on_ntfs(part: &[u8]) -> bool {
    let stream = part.iter().position(|byte| *byte == b':').unwrap_or(part.len());
    let mut name = &part[..stream];
    while let [rest @ .., b'.' | b' '] = name {
        name = rest;
    }
    name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1")
}

fn is_git_on_hfs(name: &[u8]) -> bool {
    let ignored = |c: &char| matches!(*c as u32, 0x200C..=0x200F | 0x202A..=0x202E | 0x206A..=0x206F | 0xFEFF);
    std::str::from_utf8(name).is_ok_and(|text| {
        text.chars().filter(|c| !ignored(c)).map(|c| c.to_ascii_lowercase()).eq(".git".chars())
    })
}

#[cfg(test)]
mod tests {
    use super::is_git_name;

    #[test]
    fn every_spelling_is_known() {
        for name in [
            &b".git"[..],
            b".GIT",
            b".gIt",
            b"git~1",
            b"GIT~1",
            b".git.",
            b".git . .",
            b".git::$INDEX_ALLOCATION",
            b".git\\hooks",
            b"a\\.git",
            ".g\u{200c}it".as_bytes(),
            "\u{feff}.GIT\u{206f}".as_bytes(),
        ] {
            assert!(is_git_name(name), "{}", name.escape_ascii());
        }
    }

    #[test]
    fn ordinary_names_are_not_taken_for_it() {
        for name in [
            &b".gitignore"[..],
            b".gitattributes",
            b"git",
            b".github",
            b"x.git",
            b"git~2",
            b".gi\xfft",
            b"...",
            b"\\",
        ] {
            assert!(!is_git_name(name), "{}", name.escape_ascii());
        }
    }
}
