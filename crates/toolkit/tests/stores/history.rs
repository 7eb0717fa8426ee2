//! The event store: versions, tags, snapshots, and one order without gaps.

use std::collections::HashMap;
use std::time::Duration;

use ottla::db::Dialect;
use ottla::decider::{Decider, EventSet, Old, Query, Scope, Tag};
use ottla::events::{At, DecideError, EventStore, Expect, Meta, NewEvent, Pos};
use ottla::{Envelope, Error};
use serde::{Deserialize, Serialize};

use crate::account::{Account, Command, Event, append, seed};
use crate::support::{Chance, Fresh, rows, settled, until};

async fn store() -> (Fresh, EventStore) {
    let fresh = Fresh::new().await;
    let store = EventStore::open(&fresh.db).await.unwrap();
    (fresh, store)
}

#[tokio::test]
async fn an_append_that_expects_another_version_changes_nothing() {
    let (fresh, store) = store().await;
    append(&store, "account-123", &seed()).await.unwrap();
    let mint = fresh.db.mint();
    let deposit =
        || NewEvent::of(&Event::Deposited { amount: 1 }, &Meta::begin(mint), mint).unwrap();
    let mut tx = fresh.db.begin().await.unwrap();
    for expect in [Expect::NoStream, Expect::Version(2), Expect::Version(4)] {
        let error =
            store.append(&mut tx, "account-123", expect, vec![deposit()]).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
    }
    let done =
        store.append(&mut tx, "account-123", Expect::Version(3), vec![deposit(), deposit()]).await;
    assert_eq!(done.unwrap().version, 5);
    tx.commit().await.unwrap();
    assert_eq!(store.load::<Account>("account-123", At::Latest).await.unwrap().state, 72);
}

#[tokio::test]
async fn a_long_append_keeps_its_order_and_pages_are_joined() {
    let (_fresh, store) = store().await;
    let events: Vec<_> = (1..=1_203).map(|amount| Event::Deposited { amount }).collect();
    assert_eq!(append(&store, "account-1", &events).await.unwrap(), 1_203);
    let loaded = store.load::<Account>("account-1", At::Latest).await.unwrap();
    assert_eq!((loaded.state, loaded.version), (1_203 * 1_204 / 2, 1_203));
    let at_20 = store.history("account-1", 0, At::Version(20), 50).await.unwrap();
    let amounts: Vec<_> =
        at_20.iter().map(|event| event.decode::<Event>().unwrap().unwrap()).collect();
    assert_eq!(amounts, events[..20]);
}

#[tokio::test]
async fn the_cause_and_the_story_are_kept() {
    let (fresh, store) = store().await;
    let mint = fresh.db.mint();
    let cause = Envelope::raw("order.paid", "{}", mint);
    let mut tx = fresh.db.begin().await.unwrap();
    let open = Command::Open { id: "7".into() };
    store.handle::<Account>(&mut tx, open, &Meta::caused_by(&cause)).await.unwrap();
    tx.commit().await.unwrap();
    let event = &store.history("account-7", 0, At::Latest, 1).await.unwrap()[0];
    assert_eq!(event.envelope.correlation, cause.correlation);
    assert_eq!(event.envelope.causation, Some(cause.id));
    assert_eq!(event.envelope.key.as_deref(), Some("account-7"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deposits_at_the_same_time_are_all_counted() {
    let (_fresh, store) = store().await;
    append(&store, "account-9", &[Event::AccountCreated { id: "9".into(), balance: 0 }])
        .await
        .unwrap();
    let tellers: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..25 {
                    let mut tx = store.db().begin().await.unwrap();
                    let deposit = Command::Deposit { id: "9".into(), amount: 1 };
                    store
                        .handle::<Account>(&mut tx, deposit, &Meta::begin(store.db().mint()))
                        .await
                        .unwrap();
                    tx.commit().await.unwrap();
                }
            })
        })
        .collect();
    for teller in tellers {
        teller.await.unwrap();
    }
    let loaded = store.load::<Account>("account-9", At::Latest).await.unwrap();
    assert_eq!((loaded.state, loaded.version), (200, 201));
}

#[tokio::test]
async fn a_snapshot_saves_the_replay_and_is_never_trusted_over_its_version() {
    let (fresh, store) = store().await;
    for amount in 1..=25 {
        let mut tx = fresh.db.begin().await.unwrap();
        let deposit = Command::Deposit { id: "5".into(), amount };
        store.handle::<Account>(&mut tx, deposit, &Meta::begin(fresh.db.mint())).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(fresh.number("SELECT version FROM ottla_snapshots").await, 20);
    // With everything before the snapshot gone the state is still known, the past is not.
    fresh.script("DELETE FROM ottla_events WHERE version <= 20").await;
    assert_eq!(store.load::<Account>("account-5", At::Latest).await.unwrap().state, 25 * 26 / 2);
    assert_eq!(
        store.load::<Account>("account-5", At::Version(20)).await.unwrap().state,
        20 * 21 / 2
    );
    assert_eq!(store.load::<Account>("account-5", At::Version(19)).await.unwrap().state, 0);
    fresh.script("UPDATE ottla_snapshots SET schema = 99").await;
    let replayed = store.load::<Account>("account-5", At::Latest).await.unwrap().state;
    assert_eq!(replayed, 21 + 22 + 23 + 24 + 25);
}

/// Today's account counts cents.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Cents {
    Paid { cents: i64 },
}

impl EventSet for Cents {
    const VERSION: u16 = 2;
    const NAMES: &'static [&'static str] = &["Paid"];
    fn upcast(mut old: Old) -> Old {
        if old.name == "Deposited" {
            old.name = "Paid".to_owned();
            old.body = serde_json::json!({ "cents": old.body["amount"].as_i64().unwrap() * 100 });
        }
        old
    }
}

#[tokio::test]
async fn events_of_an_older_version_are_upcast_and_others_passed_over() {
    let (_fresh, store) = store().await;
    append(&store, "account-123", &seed()).await.unwrap();
    let trail = store.history("account-123", 0, At::Latest, 10).await.unwrap();
    let read: Vec<_> = trail.iter().map(|event| event.decode::<Cents>().unwrap()).collect();
    assert_eq!(read, [None, Some(Cents::Paid { cents: 10_000 }), None]);

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Strict {
        Deposited { amount: i64 },
    }
    impl EventSet for Strict {}
    let error = trail[0].decode::<Strict>().unwrap_err().to_string();
    assert!(error.contains("AccountCreated") && error.contains("newer"), "{error}");
}

/// A course has three places, a student takes two courses: neither is one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Enrolment {
    Enrolled { course: String, student: String },
}

impl EventSet for Enrolment {
    fn tags(&self) -> Vec<Tag> {
        let Self::Enrolled { course, student } = self;
        vec![Tag::new("course", course), Tag::new("student", student)]
    }
}

struct Enrol;

impl Decider for Enrol {
    type Command = (String, String);
    type Event = Enrolment;
    type State = Vec<(String, String)>;
    type Error = Full;

    fn scope((course, student): &Self::Command) -> Scope {
        Scope::any_of([Tag::new("course", course), Tag::new("student", student)])
    }

    fn decide(
        taken: &Self::State,
        (course, student): Self::Command,
    ) -> Result<Vec<Enrolment>, Full> {
        let in_course = taken.iter().filter(|(of, _)| *of == course).count();
        let of_student = taken.iter().filter(|(_, by)| *by == student).count();
        if in_course >= 3 || of_student >= 2 {
            return Err(Full);
        }
        Ok(vec![Enrolment::Enrolled { course, student }])
    }

    fn evolve(taken: &mut Self::State, Enrolment::Enrolled { course, student }: &Enrolment) {
        taken.push((course.clone(), student.clone()));
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no place is left")]
struct Full;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_over_course_and_student_holds_whoever_enrols_at_the_same_time() {
    let (fresh, store) = store().await;
    let tries: Vec<_> = (0..48)
        .map(|n| {
            let store = store.clone();
            let wish = (format!("c{}", n % 4), format!("s{}", n / 4));
            tokio::spawn(async move {
                loop {
                    let mut tx = store.db().begin().await.unwrap();
                    let story = Meta::begin(store.db().mint());
                    match store.handle::<Enrol>(&mut tx, wish.clone(), &story).await {
                        Ok(_) => tx.commit().await.unwrap(),
                        Err(DecideError::Refused(Full)) => tx.rollback().await.unwrap(),
                        Err(DecideError::Store(error)) if error.is_transient() => continue, // deadlock
                        Err(error) => panic!("{error}"),
                    }
                    break;
                }
            })
        })
        .collect();
    for one in tries {
        one.await.unwrap();
    }
    settled(&store).await;
    let all = store.after(Pos::START, 100).await.unwrap();
    let (mut courses, mut students) = (HashMap::new(), HashMap::new());
    for event in &all {
        let Enrolment::Enrolled { course, student } = event.decode().unwrap().unwrap();
        *courses.entry(course).or_insert(0) += 1;
        *students.entry(student).or_insert(0) += 1;
    }
    assert!(courses.values().all(|taken| *taken == 3), "{courses:?}");
    assert!(students.values().all(|taken| *taken <= 2), "{students:?}");
    assert_eq!(fresh.number("SELECT count(*) FROM ottla_event_tags").await, 24);
}

#[tokio::test]
async fn what_was_read_by_tags_must_not_have_changed_when_it_is_acted_on() {
    let (fresh, store) = store().await;
    let mint = fresh.db.mint();
    let enrolled = |course: &str, student: &str| {
        let event = Enrolment::Enrolled { course: course.into(), student: student.into() };
        NewEvent::of(&event, &Meta::begin(mint), mint).unwrap()
    };
    let course = Query::all_of([Tag::new("course", "c1")]);
    let mark = store.load_scope::<Enrol>(&Scope::Tags(course.clone())).await.unwrap().mark;
    let mut tx = fresh.db.begin().await.unwrap();
    store.append_tagged(&mut tx, &course, mark, vec![enrolled("c1", "s1")]).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = fresh.db.begin().await.unwrap();
    let error =
        store.append_tagged(&mut tx, &course, mark, vec![enrolled("c1", "s2")]).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    let other = Query::all_of([Tag::new("course", "c2")]);
    store.append_tagged(&mut tx, &other, mark, vec![enrolled("c2", "s2")]).await.unwrap();
    let both = Query::all_of([Tag::new("course", "c1"), Tag::new("student", "s2")]);
    store.append_tagged(&mut tx, &both, mark, vec![]).await.unwrap(); // c1 has changed, s2 in c1 has not
}

/// PostgreSQL: a transaction that took its id first appends to the stream last. In the order of ids its
/// event would stand before the one it follows.
#[tokio::test]
async fn two_events_of_a_stream_are_never_turned_round() {
    let (fresh, store) = store().await;
    if fresh.db.dialect() == Dialect::Sqlite {
        return; // its transactions follow one another: there is nothing to turn round
    }
    fresh.script("CREATE TABLE t (n BIGINT)").await;
    let mint = fresh.db.mint();
    let event =
        |amount| NewEvent::of(&Event::Deposited { amount }, &Meta::begin(mint), mint).unwrap();
    let mut early = fresh.db.begin().await.unwrap();
    early.exec("INSERT INTO t VALUES (1)", &[]).await.unwrap(); // takes the lower id
    let mut late = fresh.db.begin().await.unwrap();
    store.append(&mut late, "account-1", Expect::NoStream, vec![event(1)]).await.unwrap();
    late.commit().await.unwrap();
    assert_eq!(store.after(Pos::START, 10).await.unwrap(), [], "the early one may still append");
    assert!(store.oldest_blocking().await.unwrap().is_some());
    store.append(&mut early, "account-1", Expect::Version(1), vec![event(2)]).await.unwrap();
    early.commit().await.unwrap();
    let turned = "SELECT count(*) FROM ottla_events a, ottla_events b
        WHERE a.version < b.version AND a.xmin::text::bigint > b.xmin::text::bigint";
    assert_eq!(fresh.number(turned).await, 1, "by transaction id they are turned round");
    let mut versions = Vec::new();
    until("both are handed out", async || {
        versions =
            store.after(Pos::START, 10).await.unwrap().iter().map(|event| event.version).collect();
        versions.len() == 2
    })
    .await;
    assert_eq!(versions, [1, 2]);
}

#[tokio::test]
async fn events_restored_into_another_cluster_are_seen_and_stay_before_new_ones() {
    let (fresh, store) = store().await;
    if fresh.db.dialect() == Dialect::Sqlite {
        return; // it has no transaction ids that a restore could leave behind
    }
    append(&store, "account-123", &seed()).await.unwrap();
    // As after a restore: the labels are of a cluster that had counted much further.
    fresh.script("UPDATE ottla_events SET label = label + 3000000000").await;
    assert_eq!(store.after(Pos::START, 10).await.unwrap(), []);
    let store = EventStore::open(&fresh.again().await).await.unwrap();
    append(&store, "account-123", &[Event::Deposited { amount: 5 }]).await.unwrap();
    let mut versions = Vec::new();
    until("all are handed out", async || {
        versions =
            store.after(Pos::START, 10).await.unwrap().iter().map(|event| event.version).collect();
        versions.len() == 4
    })
    .await;
    assert_eq!(versions, [1, 2, 3, 4]);
}

/// The gap test (research, 3.1): 16 writers that hold their transactions open for a while, some of which
/// roll back, and a reader that follows. A cursor over bare numbers lost two thirds of the rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_sees_every_event_once_and_each_stream_in_order() {
    const WRITERS: u64 = 16;
    let (fresh, store) = store().await;
    fresh.script("CREATE TABLE scratch (n BIGINT)").await;
    let each = rows(3_200).min(50_000) / WRITERS;
    let hold = fresh.db.dialect() == Dialect::Postgres; // SQLite's transactions do not overlap
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let (mut chance, mut committed) = (Chance::new(writer + 1), 0);
                while committed < each {
                    let many = 1 + chance.below(5).min(each - committed - 1);
                    let mint = store.db().mint();
                    let mut tx = store.db().begin().await.unwrap();
                    if chance.below(2) == 0 {
                        // Takes the transaction's id long before its event.
                        tx.exec("INSERT INTO scratch VALUES (1)", &[]).await.unwrap();
                    }
                    let stream = format!("account-{}", chance.below(8));
                    let event =
                        NewEvent::of(&Event::Deposited { amount: 1 }, &Meta::begin(mint), mint)
                            .unwrap();
                    let events = vec![event; usize::try_from(many).unwrap()];
                    store.append(&mut tx, &stream, Expect::Any, events).await.unwrap();
                    if hold && chance.below(8) == 0 {
                        tokio::time::sleep(Duration::from_millis(chance.below(15))).await;
                    }
                    if chance.below(20) == 0 {
                        tx.rollback().await.unwrap();
                    } else {
                        tx.commit().await.unwrap();
                        committed += many;
                    }
                }
            })
        })
        .collect();

    let (mut pos, mut seen, mut versions) = (Pos::START, 0, HashMap::<String, u64>::new());
    while seen < each * WRITERS {
        let page = store.after(pos, 1_000).await.unwrap();
        for event in &page {
            let last = versions.entry(event.stream.clone().unwrap()).or_default();
            assert_eq!(event.version, *last + 1, "of {:?} at {}", event.stream, event.pos);
            assert!(event.pos > pos);
            (*last, pos) = (event.version, event.pos);
        }
        seen += u64::try_from(page.len()).unwrap();
        if page.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.after(pos, 10).await.unwrap(), []);
    assert_eq!(
        fresh.number("SELECT count(*) FROM ottla_events").await,
        i64::try_from(seen).unwrap()
    );
}
