//! What Landlock says in audit records, read strictly: the text holds names that sessions chose.
//!
//! Format: `Documentation/admin-guide/LSM/landlock.rst` of Linux 6.15. A name with a quote, a space
//! or a control character comes as hexadecimal digits without quotes, so a quote ends a name and a
//! space ends a field. Must never know whose domain it is.

use serde::{Deserialize, Serialize};

const ACCESS: u16 = 1423;
const DOMAIN: u16 = 1424;
/// `MAX_AUDIT_MESSAGE_LENGTH`.
const TEXT_BYTES_MAX: usize = 8970;
/// Longer than all names of rights together.
const BLOCKERS_BYTES_MAX: usize = 1024;

/// How the kernel names the image that init is a fork of.
const OWN_IMAGE: &[u8] = b"/memfd:cofferdam (deleted)";

/// One record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    /// A refusal.
    Denied {
        /// Which domain.
        domain: u64,
        /// The first right that was missing, such as `fs.make_reg`.
        blocker: String,
        /// On what: bytes of a path as the process sees it, or a port.
        target: Option<Vec<u8>>,
    },
    /// A domain that refused for the first time, and the process that made it. `ours`: that was
    /// this program, run from memory.
    Allocated { domain: u64, pid: i32, ours: bool },
    /// A domain that is gone, and how often it refused in all.
    Deallocated { domain: u64, denials: u64 },
}

/// Reads one; none if it is not Landlock's.
pub(crate) fn parse(kind: u16, text: &[u8]) -> Option<Result<Record, Malformed>> {
    match kind {
        ACCESS => Some(access(text).ok_or(Malformed)),
        DOMAIN => Some(domain(text).ok_or(Malformed)),
        _ => None,
    }
}

/// It was Landlock's and cannot be read: counts as lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// The fields behind `audit(TIME:SERIAL): `; none if one is there twice, which only a forgery has.
fn fields(text: &[u8]) -> Option<Vec<(&str, &[u8])>> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let rest = text.strip_prefix(b"audit(")?;
    let end = rest.iter().position(|byte| *byte == b')')?;
    let stamp = |byte: &u8| byte.is_ascii_digit() || *byte == b'.' || *byte == b':';
    if !rest.get(..end)?.iter().all(stamp) {
        return None;
    }
    let fields = rest.get(end..)?.strip_prefix(b"): ")?.split(|byte| *byte == b' ');
    let fields: Vec<_> = fields.filter(|it| !it.is_empty()).map(field).collect::<Option<_>>()?;
    let mut names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.windows(2).all(|two| two[0] != two[1]).then_some(fields)
}

fn field(field: &[u8]) -> Option<(&str, &[u8])> {
    let equals = field.iter().position(|byte| *byte == b'=')?;
    Some((std::str::from_utf8(field.get(..equals)?).ok()?, field.get(equals + 1..)?))
}

fn only<'a>(fields: &[(&str, &'a [u8])], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    let digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

fn id(fields: &[(&str, &[u8])]) -> Option<u64> {
    let value = only(fields, "domain")?;
    let hex = value.iter().all(u8::is_ascii_hexdigit) && value.len() <= 16;
    u64::from_str_radix(std::str::from_utf8(value).ok().filter(|_| hex)?, 16).ok()
}

fn access(text: &[u8]) -> Option<Record> {
    let fields = fields(text)?;
    let blockers = only(&fields, "blockers")?;
    let is_right = |byte: &u8| byte.is_ascii_lowercase() || b"._,".contains(byte);
    if blockers.len() > BLOCKERS_BYTES_MAX || !blockers.iter().all(is_right) {
        return None;
    }
    let blocker = std::str::from_utf8(blockers).ok()?.split(',').next()?.to_owned();
    let target = match only(&fields, "path") {
        Some(value) => Some(name(value)?),
        None => only(&fields, "dest").or(only(&fields, "src")).map(<[u8]>::to_vec),
    };
    (!blocker.is_empty()).then_some(Record::Denied { domain: id(&fields)?, blocker, target })
}

/// A quoted name as it is, or hexadecimal digits of one.
fn name(value: &[u8]) -> Option<Vec<u8>> {
    if let Some(quoted) = value.strip_prefix(b"\"") {
        let name = quoted.strip_suffix(b"\"")?;
        return (!name.contains(&b'"')).then(|| name.to_vec());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let pairs = value.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

fn domain(text: &[u8]) -> Option<Record> {
    let fields = fields(text)?;
    let domain = id(&fields)?;
    match only(&fields, "status")? {
        b"allocated" => {
            let exe = name(only(&fields, "exe")?)?;
            let pid = number(only(&fields, "pid")?)?;
            Some(Record::Allocated { domain, pid, ours: exe == OWN_IMAGE })
        }
        b"deallocated" => {
            Some(Record::Deallocated { domain, denials: number(only(&fields, "denials")?)? })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Malformed, Record, parse};

    fn denied(text: &str) -> Result<Record, Malformed> {
        parse(1423, format!("audit(1795645848.882:4): {text}").as_bytes()).unwrap()
    }

    fn target(domain: u64, blocker: &str, target: &[u8]) -> Result<Record, Malformed> {
        let (blocker, target) = (blocker.to_owned(), Some(target.to_vec()));
        Ok(Record::Denied { domain, blocker, target })
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        let plain =
            "domain=1f8192298 blockers=fs.remove_file,fs.make_reg path=\"/etc\" dev=\"vda\" ino=19";
        assert_eq!(denied(plain), target(0x1_f819_2298, "fs.remove_file", b"/etc"));
        let hex = "domain=2 blockers=fs.read_file path=2F6120620A22 dev=\"tmpfs\" ino=3";
        assert_eq!(denied(hex), target(2, "fs.read_file", b"/a b\n\""));
        let port = "domain=2 blockers=net.connect_tcp daddr=127.0.0.1 dest=80";
        assert_eq!(denied(port), target(2, "net.connect_tcp", b"80"));
        let domain =
            |text: &str| parse(1424, format!("audit(1.2:3): {text}\0").as_bytes()).unwrap();
        let made = "domain=a status=allocated mode=enforcing pid=17 uid=0 exe=";
        let by = |exe: &str| domain(&format!("{made}{exe} comm=\"y\""));
        let allocated = |ours| Ok(Record::Allocated { domain: 10, pid: 17, ours });
        assert_eq!(by("\"/usr/bin/x\""), allocated(false));
        let own: String = super::OWN_IMAGE.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(by(&own), allocated(true));
        assert_eq!(domain("domain=a status=allocated pid=17"), Err(Malformed));
        let gone = Ok(Record::Deallocated { domain: 10, denials: 29 });
        assert_eq!(domain("domain=a status=deallocated denials=29"), gone);
        assert_eq!(parse(1300, b"audit(1.2:3): arch=c000003e"), None);
    }

    #[test]
    fn what_it_never_writes_is_refused() {
        for text in [
            "domain=1 domain=2 blockers=fs.read_file path=\"/x\"",
            "domain=1 blockers=fs.read_file path=\"/x\" path=\"/y\"",
            "domain=1 blockers=FS path=\"/x\"",
            "domain=1 blockers= path=\"/x\"",
            "domain=1 blockers=fs.read_file path=\"/x",
            "domain=1 blockers=fs.read_file path=\"/x\"y\"",
            "domain=1 blockers=fs.read_file path=2F6",
            "domain=1 blockers=fs.read_file path=zz",
            "domain=+1 blockers=fs.read_file path=\"/x\"",
            "domain=11111111111111111 blockers=fs.read_file path=\"/x\"",
            "blockers=fs.read_file path=\"/x\"",
            "domain=1",
        ] {
            assert_eq!(denied(text), Err(Malformed), "{text}");
        }
        let long = format!("domain=1 blockers=fs.read_file path=\"/{}\"", "x".repeat(9000));
        assert_eq!(denied(&long), Err(Malformed));
        assert_eq!(parse(1423, b"audit(1.2:3) domain=1"), Some(Err(Malformed)));
        assert_eq!(parse(1424, b"audit(1.2:3): domain=1 status=odd"), Some(Err(Malformed)));
    }

    proptest! {
        #[test]
        fn any_name_comes_back(name in proptest::collection::vec(any::<u8>(), 1..200)) {
            let hex: String = name.iter().map(|byte| format!("{byte:02X}")).collect();
            let record = denied(&format!("domain=7 blockers=fs.execute path={hex} dev=\"x\""));
            prop_assert_eq!(record, target(7, "fs.execute", &name));
        }

        #[test]
        fn nothing_panics(kind in 1420_u16..1427, text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _any = parse(kind, &text);
            let text = [b"audit(1.2:3): domain=1 ".as_slice(), &text].concat();
            let _any = parse(kind, &text);
        }
    }
}
