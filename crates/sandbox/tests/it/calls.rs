//! What a call gives back.

use cofferdam_contract::events::CallEnd;

use crate::support::{Site, launcher, text};

#[test]
fn output_and_exit_code_come_back() {
    let launcher = launcher();
    let open = Site::new().open(&launcher);
    for wall in &open.session.report().walls {
        println!("{wall:?}");
    }
    let result = open.sh("cat hello; id; echo bad >&2; echo >/dev/stderr again; pwd; env; ls -la / /dev /proc/self/fd; cat /proc/self/mountinfo; exit 3");
    println!("{:?} {}\n{}", result.not_started, text(&result.stdout), text(&result.stderr));
    for denial in open.denials.0.lock().unwrap().iter() {
        println!("{denial:?}");
    }
    assert_eq!((result.end, result.exit_code), (CallEnd::Exited, Some(3)));
}
