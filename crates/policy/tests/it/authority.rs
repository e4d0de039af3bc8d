//! The whole table of authority: role × act.

use std::fmt::Write as _;

use cofferdam_contract::ids::PrincipalId;
use cofferdam_policy::authority::{Act, Role, local};
use cofferdam_policy::profile::ApprovalTable;

fn approval(requester_may_approve: bool) -> ApprovalTable {
    ApprovalTable { required: 1, requester_may_approve, expires_after_ms: 1 }
}

#[test]
fn who_may_do_what() {
    let mut shown = String::new();
    for act in Act::ALL {
        let _ = writeln!(shown, "{}", act.name());
        for role in Role::ALL {
            for (is_requester, may) in [(true, true), (true, false), (false, false)] {
                let ruling = local(*role, *act, is_requester, &approval(may));
                let _ = writeln!(
                    shown,
                    "  {:8} requester={is_requester:5} requester_may_approve={may:5} -> {:?} {}",
                    format!("{role:?}"),
                    ruling.decision,
                    ruling.reason_code
                );
            }
        }
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_principal_has_one_role() {
    let id = |text: &str| text.parse::<PrincipalId>().unwrap();
    let owner = id("local:ada");
    let roles = [
        ("local:ada", Role::Owner),
        ("local:eve", Role::Stranger),
        ("local:adA", Role::Stranger),
        ("session:ses_1", Role::Session),
        ("runtime", Role::Runtime),
        ("runtime:x", Role::Stranger),
    ];
    for (text, role) in roles {
        assert_eq!(Role::of(&id(text), &owner), role, "{text}");
    }
    // Even an owner whose name is that of a session has the session's role.
    assert_eq!(Role::of(&id("session:x"), &id("session:x")), Role::Session);
}
