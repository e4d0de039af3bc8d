//! Who uses this process: the user that the kernel says it is. Never believed from an argument or
//! a variable.

use cofferdam_contract::ids::PrincipalId;
use cofferdam_contract::problem::{Code, Problem};

/// The user of this process as `local:NAME`, or `local:uid-N` where the user has no name.
///
/// # Errors
/// Never for a kernel's uid; the type cannot say so.
pub(crate) fn of_process() -> Result<PrincipalId, Problem> {
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = name_of(&users, uid).and_then(|name| format!("local:{name}").parse().ok());
    match named {
        Some(principal) => Ok(principal),
        None => format!("local:uid-{uid}")
            .parse()
            .map_err(|error| Problem::new(Code::Internal, format!("{error}"))),
    }
}

/// The name of `uid` in text of the form of passwd(5).
fn name_of(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _password, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid) && !name.is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn a_name_is_found_by_its_number() {
        let users = "root:x:0:0::/root:/bin/sh\nbroken\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(name_of(users, 1000), Some("me"));
        assert_eq!(name_of(users, 0), Some("root"));
        assert_eq!(name_of(users, 7), None);
    }
}
