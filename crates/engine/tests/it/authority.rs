//! Nobody but the owner gives a command, whatever way it came into the inbox.

use std::sync::Arc;

use cofferdam_contract::problem::Code;
use cofferdam_engine::{Command, Given, Unobserved};

use crate::flow::{approve, command};
use crate::world::{Death, World};

/// Principals without authority: another user, something in a session, the runtime itself.
const OTHERS: [&str; 3] = ["local:somebody-else", "session:ses_0", "runtime"];

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_somebody_else_is_refused_and_changes_nothing() {
    let world = World::new(40);
    let engine = world.boot(Death::NONE).await.unwrap();
    let admitted = engine.admit(world.request(&["write", "file.txt", "two\n"])).await.unwrap();
    let view = engine.advance(&admitted.run, Arc::new(Unobserved)).await.unwrap();
    assert_eq!(view.state, "awaiting_approval");
    let ends = || {
        vec![
            approve(&view),
            Command::Reject { reason: "no".to_owned() },
            Command::Merge { into: "main".to_owned() },
            Command::Rollback {},
        ]
    };
    let settles = || vec![Command::Recheck {}, Command::Resume {}, Command::Stop {}];
    for other in OTHERS {
        let by = || other.parse().unwrap();
        let forbidden =
            ends().into_iter().chain(settles().into_iter().filter(|_| other != "runtime"));
        for attempt in forbidden {
            let given = Given { by: by(), command: attempt.clone() };
            let refused = engine.command(&view.run, given, Arc::new(Unobserved)).await.unwrap_err();
            assert_eq!(refused.code, Code::PolicyDenied, "{other}: {attempt:?}: {refused}");
        }
    }
    let after = engine.show(&view.run).await.unwrap();
    assert_eq!((after.state.as_str(), after.digest), ("awaiting_approval", view.digest));
    assert!(world.git(&["branch", "--list", "cofferdam/*"]).is_empty());
    // The controls: the runtime may settle, and the owner may end it.
    let given = Given { by: "runtime".parse().unwrap(), command: Command::Recheck {} };
    engine.command(&view.run, given, Arc::new(Unobserved)).await.unwrap();
    let ended = command(&engine, &view.run, Command::Reject { reason: "no".to_owned() }).await;
    assert_eq!(ended.unwrap().view.state, "rejected");
}
