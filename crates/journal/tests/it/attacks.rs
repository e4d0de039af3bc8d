//! Somebody with the database open tries to change history unseen.
//!
//! Each attack starts from an untouched journal that verifies: the positive control. What is found
//! must also name the place.

use std::fs;

use cofferdam_contract::chain;
use cofferdam_contract::digest::Digest;
use cofferdam_contract::ids::RunId;
use cofferdam_contract::request::Retention;
use cofferdam_journal::{
    Durability, Expected, FaultKind, HeadStatement, Journal, JournalError, VerifyReport,
};
use sqlx::sqlite::SqliteConnection;

use crate::world::{World, note, redactor, start};

/// Three runs of six events; the first two are sealed, the third is not.
struct Scene {
    world: World,
    journal: Journal,
    runs: Vec<RunId>,
    blob: Digest,
}

impl Scene {
    async fn new() -> Self {
        let world = World::new();
        let journal = world.open().await;
        let mut runs = vec![];
        for number in 0..3 {
            let hold = start(&journal, world.new_run()).await;
            let events = (1..6).map(|at| note(format!("run {number} event {at}"))).collect();
            append(&journal, hold.run(), events).await;
            if number < 2 {
                journal.seal(hold.run()).await.unwrap();
            }
            runs.push(hold.run().clone());
        }
        let bytes = redactor().redact(b"what a session said");
        let blob = journal
            .put_blob(&runs[0], bytes, Retention::Journal, Durability::Commit)
            .await
            .unwrap();
        let scene = Self { world, journal, runs, blob };
        let untouched = scene.journal.verify().await.unwrap();
        assert!(untouched.ok(), "{:?}", untouched.faults);
        assert_eq!((untouched.runs, untouched.events, untouched.heads), (3, 18, 2));
        assert_eq!((untouched.events_sealed, untouched.blobs), (12, 1));
        scene
    }

    /// Lets `statement` be executed with each of `arguments` as text, and verifies.
    async fn after(&self, statements: &[String]) -> VerifyReport {
        let mut intruder = self.world.intruder().await;
        for statement in statements {
            execute(&mut intruder, statement.clone()).await;
        }
        self.journal.verify().await.unwrap()
    }
}

async fn execute(intruder: &mut SqliteConnection, statement: String) {
    let done =
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(intruder).await.unwrap();
    assert!(done.rows_affected() > 0, "{statement} did nothing");
}

async fn append(journal: &Journal, run: &RunId, events: Vec<cofferdam_journal::NewEvent>) {
    journal.append(run, 1, Expected::Any, events, Durability::Commit).await.unwrap();
}

/// That `report` has a fault of this kind, at this run and sequence.
#[track_caller]
fn assert_found(
    report: &VerifyReport,
    kind: FaultKind,
    run: Option<&RunId>,
    sequence: Option<u64>,
) {
    let fits = |fault: &cofferdam_journal::Fault| {
        fault.kind == kind && fault.run.as_ref() == run && fault.sequence == sequence
    };
    assert!(report.faults.iter().any(fits), "no {kind:?} at {sequence:?}: {:?}", report.faults);
}

/// Writes the links of a run anew from its bytes, as somebody would who knows how chains work.
async fn rechain(scene: &Scene, run: &RunId) {
    let mut intruder = scene.world.intruder().await;
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT sequence, bytes FROM events WHERE run = ? ORDER BY sequence")
            .bind(run.as_str())
            .fetch_all(&mut intruder)
            .await
            .unwrap();
    let mut link = chain::run_genesis(run);
    for (sequence, bytes) in &rows {
        link = chain::event_link(&link, *sequence as u64, bytes);
        sqlx::query("UPDATE events SET link = ? WHERE run = ? AND sequence = ?")
            .bind(link.as_bytes().as_slice())
            .bind(run.as_str())
            .bind(sequence)
            .execute(&mut intruder)
            .await
            .unwrap();
    }
    sqlx::query("UPDATE runs SET link = ?, next = ? WHERE run = ?")
        .bind(link.as_bytes().as_slice())
        .bind(rows.len() as i64)
        .bind(run.as_str())
        .execute(&mut intruder)
        .await
        .unwrap();
}

fn edit(run: &RunId, sequence: u64) -> String {
    format!(
        "UPDATE events SET bytes = CAST(replace(CAST(bytes AS TEXT), 'event {sequence}', 'EVENT {sequence}') AS BLOB)
         WHERE run = '{run}' AND sequence = {sequence}"
    )
}

#[tokio::test]
async fn an_edited_event_shows() {
    let scene = Scene::new().await;
    for (at, run) in scene.runs.iter().enumerate() {
        let report = scene.after(&[edit(run, at as u64 + 1)]).await;
        assert_found(&report, FaultKind::EventChanged, Some(run), Some(at as u64 + 1));
        assert_eq!(report.faults.len(), at + 1, "each once: {:?}", report.faults);
    }
}

#[tokio::test]
async fn an_edited_event_shows_although_the_chain_was_written_anew() {
    let scene = Scene::new().await;
    let run = &scene.runs[0];
    scene.after(&[edit(run, 3)]).await;
    rechain(&scene, run).await;
    let report = scene.journal.verify().await.unwrap();
    assert_found(&report, FaultKind::HeadMismatch, Some(run), Some(5));
    // The control of what is promised: without a head, who recomputes everything is not found.
    scene.after(&[edit(&scene.runs[2], 3)]).await;
    rechain(&scene, &scene.runs[2]).await;
    let report = scene.journal.verify().await.unwrap();
    assert!(report.faults.iter().all(|fault| fault.run.as_ref() == Some(run)));
}

#[tokio::test]
async fn an_edited_tail_is_not_signed_afterwards() {
    let scene = Scene::new().await;
    let run = &scene.runs[2];
    scene.after(&[edit(run, 4)]).await;
    let refused = scene.journal.seal(run).await.unwrap_err();
    assert!(matches!(refused, JournalError::Corrupt(_)), "{refused}");
    let head = scene.journal.seal(&scene.runs[1]).await.unwrap();
    assert_eq!(head.head.number, 1, "an untouched run is sealed as before");
}

#[tokio::test]
async fn an_event_dropped_from_the_middle_shows() {
    let scene = Scene::new().await;
    let run = &scene.runs[2];
    let drop = format!("DELETE FROM events WHERE run = '{run}' AND sequence = 2");
    let report = scene.after(&[drop]).await;
    assert_found(&report, FaultKind::EventMissing, Some(run), Some(2));
}

#[tokio::test]
async fn a_tail_dropped_after_a_signed_head_shows() {
    let scene = Scene::new().await;
    let run = &scene.runs[0];
    let drop = format!("DELETE FROM events WHERE run = '{run}' AND sequence > 2");
    scene.after(&[drop]).await;
    // Also with a row that agrees.
    rechain(&scene, run).await;
    let report = scene.journal.verify().await.unwrap();
    assert_found(&report, FaultKind::EventMissing, Some(run), Some(3));
}

#[tokio::test]
async fn a_tail_dropped_without_a_head_shows_by_the_row() {
    let scene = Scene::new().await;
    let run = &scene.runs[2];
    let report =
        scene.after(&[format!("DELETE FROM events WHERE run = '{run}' AND sequence = 5")]).await;
    assert_found(&report, FaultKind::EventMissing, Some(run), Some(5));
}

#[tokio::test]
async fn two_events_in_another_order_show() {
    let scene = Scene::new().await;
    let run = &scene.runs[1];
    let swap = [(2, 102), (3, 2), (102, 3)].map(|(from, to)| {
        format!("UPDATE events SET sequence = {to} WHERE run = '{run}' AND sequence = {from}")
    });
    let report = scene.after(&swap).await;
    assert_found(&report, FaultKind::EventChanged, Some(run), Some(2));
    assert_found(&report, FaultKind::EventUnreadable, Some(run), Some(3));
}

#[tokio::test]
async fn events_swapped_between_runs_show() {
    let scene = Scene::new().await;
    let [one, other] = [&scene.runs[0], &scene.runs[1]];
    let swap = [(one.as_str(), "x"), (other.as_str(), one.as_str()), ("x", other.as_str())].map(
        |(from, to)| {
            format!("UPDATE events SET run = '{to}' WHERE run = '{from}' AND sequence = 4")
        },
    );
    let report = scene.after(&swap).await;
    for run in [one, other] {
        assert_found(&report, FaultKind::EventChanged, Some(run), Some(4));
        assert_found(&report, FaultKind::EventUnreadable, Some(run), Some(4));
    }
}

#[tokio::test]
async fn a_replayed_event_shows() {
    let scene = Scene::new().await;
    let run = &scene.runs[2];
    let replay = format!(
        "INSERT INTO events SELECT run, 6, link, bytes FROM events
         WHERE run = '{run}' AND sequence = 5"
    );
    let report = scene.after(&[replay]).await;
    assert_found(&report, FaultKind::EventUnreadable, Some(run), Some(6));
    rechain(&scene, run).await;
    let report = scene.journal.verify().await.unwrap();
    assert_found(&report, FaultKind::EventUnreadable, Some(run), Some(6));
}

#[tokio::test]
async fn a_sequence_cannot_be_there_twice() {
    let scene = Scene::new().await;
    let mut intruder = scene.world.intruder().await;
    let insert = sqlx::query("INSERT INTO events SELECT run, sequence, link, x'00' FROM events");
    assert!(insert.execute(&mut intruder).await.is_err());
    assert!(scene.journal.verify().await.unwrap().ok());
}

#[tokio::test]
async fn a_sealed_run_dropped_as_a_whole_shows() {
    let scene = Scene::new().await;
    let run = &scene.runs[0];
    let report = scene
        .after(&[
            format!("DELETE FROM events WHERE run = '{run}'"),
            format!("DELETE FROM runs WHERE run = '{run}'"),
        ])
        .await;
    assert_found(&report, FaultKind::RunMissing, Some(run), None);
}

#[tokio::test]
async fn a_sealed_run_dropped_with_its_head_shows() {
    let scene = Scene::new().await;
    let run = &scene.runs[0];
    let drop =
        ["heads", "events", "runs"].map(|it| format!("DELETE FROM {it} WHERE run = '{run}'"));
    let report = scene.after(&drop).await;
    assert!(report.faults.iter().any(|fault| fault.kind == FaultKind::HeadMissing));
    let renumber = "UPDATE heads SET number = 0".to_owned();
    let report = scene.after(&[renumber]).await;
    assert!(report.faults.iter().any(|fault| fault.kind == FaultKind::HeadChanged));
}

#[tokio::test]
async fn the_row_of_an_unsealed_run_dropped_shows() {
    let scene = Scene::new().await;
    let run = &scene.runs[2];
    let report = scene.after(&[format!("DELETE FROM runs WHERE run = '{run}'")]).await;
    assert_found(&report, FaultKind::RunMissing, Some(run), None);
}

#[tokio::test]
async fn an_edited_head_shows() {
    let scene = Scene::new().await;
    let forge = "UPDATE heads SET statement =
                 CAST(replace(CAST(statement AS TEXT), '\"sequence\":5', '\"sequence\":4') AS BLOB)
                 WHERE number = 0";
    let report = scene.after(&[forge.to_owned()]).await;
    assert_found(&report, FaultKind::HeadForged, Some(&scene.runs[0]), None);
}

#[tokio::test]
async fn heads_in_another_order_show() {
    let scene = Scene::new().await;
    let swap = [(0, 9), (1, 0), (9, 1)]
        .map(|(from, to)| format!("UPDATE heads SET number = {to} WHERE number = {from}"));
    let report = scene.after(&swap).await;
    assert_found(&report, FaultKind::HeadChanged, Some(&scene.runs[1]), None);
    assert_found(&report, FaultKind::HeadChanged, Some(&scene.runs[0]), None);
}

#[tokio::test]
async fn a_head_signed_by_another_key_shows() {
    let scene = Scene::new().await;
    let head = scene.journal.heads(&scene.runs[1]).await.unwrap().remove(0);
    let stranger = World {
        entropy: std::sync::Arc::new(crate::world::CountingEntropy::new(77)),
        ..World::new()
    };
    let stranger = stranger.open().await;
    assert_ne!(stranger.signer().key_id(), scene.journal.signer().key_id());
    // A perfect forgery but for the key.
    let forged = HeadStatement { at: head.head.at.plus_ms(1), ..head.head.clone() };
    let statement = serde_json::to_vec(&forged).unwrap();
    let signature = stranger.signer().sign(&statement);
    let link = chain::head_link(&forged.previous, &statement);
    let put =
        sqlx::query("UPDATE heads SET statement = ?, signature = ?, link = ? WHERE number = 1");
    let put = |signature: Vec<u8>| {
        put.bind(statement.clone()).bind(signature).bind(link.as_bytes().to_vec())
    };
    put(signature.to_vec()).execute(&mut scene.world.intruder().await).await.unwrap();
    let report = scene.journal.verify().await.unwrap();
    assert_found(&report, FaultKind::HeadForged, Some(&scene.runs[1]), None);
    // The control: the same with the right key is a head.
    let signature = scene.journal.signer().sign(&statement).to_vec();
    sqlx::query("UPDATE heads SET signature = ? WHERE number = 1")
        .bind(signature)
        .execute(&mut scene.world.intruder().await)
        .await
        .unwrap();
    assert!(scene.journal.verify().await.unwrap().ok());
}

#[tokio::test]
async fn an_edited_and_a_dropped_blob_show() {
    let scene = Scene::new().await;
    let hex = scene.blob.hex();
    let path = scene.world.dir.path().join("journal/blobs").join(&hex[..2]).join(&hex);
    assert_eq!(scene.journal.blob(&scene.blob).await.unwrap(), b"what a session said");
    fs::write(&path, b"what a session SAID").unwrap();
    let report = scene.journal.verify().await.unwrap();
    assert_found(&report, FaultKind::BlobChanged, Some(&scene.runs[0]), None);
    let read = scene.journal.blob(&scene.blob).await;
    assert!(matches!(read, Err(JournalError::Corrupt(_))));
    fs::remove_file(&path).unwrap();
    let report = scene.journal.verify().await.unwrap();
    assert_found(&report, FaultKind::BlobMissing, Some(&scene.runs[0]), None);
}

#[tokio::test]
async fn an_event_put_in_and_chained_shows() {
    let scene = Scene::new().await;
    let run = &scene.runs[1];
    let put = format!(
        "INSERT INTO events SELECT run, 6, link,
            CAST(replace(CAST(bytes AS TEXT), '\"sequence\":5', '\"sequence\":6') AS BLOB)
         FROM events WHERE run = '{run}' AND sequence = 5"
    );
    let report = scene.after(&[put]).await;
    assert_found(&report, FaultKind::EventChanged, Some(run), Some(6));
}

#[tokio::test]
async fn a_rolled_back_database_shows_by_its_last_head() {
    let scene = Scene::new().await;
    let kept_elsewhere = scene.journal.verify().await.unwrap().last_head;
    let copy = scene.world.dir.path().join("copy.db");
    let backup = format!("VACUUM INTO '{}'", copy.display());
    let mut intruder = scene.world.intruder().await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(backup)).execute(&mut intruder).await.unwrap();
    append(&scene.journal, &scene.runs[0], vec![note("later")]).await;
    let later = scene.journal.seal(&scene.runs[0]).await.unwrap();
    let now = scene.journal.verify().await.unwrap();
    assert_eq!(now.last_head, Some(later.link));
    assert_ne!(now.last_head, kept_elsewhere);
    // Putting the old file back is consistent in itself; only the head that was noted tells.
    scene.after(&["DELETE FROM heads WHERE number = 2".to_owned()]).await;
    assert_eq!(scene.journal.verify().await.unwrap().last_head, kept_elsewhere);
}

#[tokio::test]
async fn changed_events_are_not_read_as_if_nothing_were() {
    let scene = Scene::new().await;
    let run = &scene.runs[2];
    assert_eq!(scene.journal.events(run, 0).await.unwrap().len(), 6);
    scene.after(&[edit(run, 3)]).await;
    for from in 0..4 {
        let read = scene.journal.events(run, from).await;
        assert!(matches!(read, Err(JournalError::Corrupt(_))), "from {from}");
    }
    assert_eq!(scene.journal.events(run, 4).await.unwrap().len(), 2, "later ones were not changed");
    let drop = format!("DELETE FROM events WHERE run = '{run}' AND sequence = 4");
    scene.after(&[drop]).await;
    assert!(matches!(scene.journal.events(run, 4).await, Err(JournalError::Corrupt(_))));
}
