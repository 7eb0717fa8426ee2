//! Stories of the seed's order saga: reserve stock, charge, ship; undone in reverse.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::Message;
use crate::db::{Db, DbOptions};
use crate::envelope::Envelope;
use crate::mint::Mint;

macro_rules! messages {
    ($($type:ident = $name:literal),* $(,)?) => {
        $(#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
        #[message(name = $name, key = "order")]
        struct $type { order: String })*
        $(impl $type { fn one() -> Self { Self { order: "o-1".to_owned() } } })*
    };
}

messages! {
    Placed = "order.placed", Cancelled = "order.cancelled", Confirmed = "order.confirmed",
    Reserve = "stock.reserve", Reserved = "stock.reserved", OutOfStock = "stock.out",
    Release = "stock.release", Released = "stock.released",
    Charge = "payment.charge", Charged = "payment.charged", Declined = "payment.declined",
    Refund = "payment.refund", Refunded = "payment.refunded",
    Ship = "parcel.ship", Shipped = "parcel.shipped",
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Message)]
#[message(name = "order.rejected", key = "order")]
struct Rejected {
    order: String,
    why: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    order: String,
}

fn checkout() -> Saga<Order> {
    let id = |order: &Order| order.order.clone();
    Saga::starts_on("checkout", "orders", |placed: Placed| Order { order: placed.order })
        .step(
            step("reserve", "queue:stock", move |o| Reserve { order: id(o) })
                .done_on::<Reserved>("stock-events")
                .failed_on::<OutOfStock>("stock-events")
                .undo("queue:stock", move |o| Release { order: id(o) })
                .undone_on::<Released>("stock-events")
                .within(Duration::from_secs(30)),
        )
        .step(
            step("charge", "queue:payment", move |o| Charge { order: id(o) })
                .done_on::<Charged>("payments")
                .failed_on::<Declined>("payments")
                .undo("queue:payment", move |o| Refund { order: id(o) })
                .undone_on::<Refunded>("payments"),
        )
        .step(
            step("ship", "queue:shipping", move |o| Ship { order: id(o) })
                .done_on::<Shipped>("parcels"),
        )
        .cancelled_on::<Cancelled>("orders")
        .completes_with("orders", move |o| Confirmed { order: id(o) })
        .fails_with("orders", move |o, why| Rejected { order: id(o), why: why.to_owned() })
        .undo_again(3, Duration::from_secs(1), Duration::from_secs(60))
}

fn rejected(why: &str) -> Rejected {
    Rejected { order: "o-1".to_owned(), why: why.to_owned() }
}

#[test]
fn every_step_is_done_in_turn() {
    given(&checkout(), &Placed::one())
        .then_sends("queue:stock", &Reserve::one())
        .when(&Reserved::one())
        .then_sends("queue:payment", &Charge::one())
        .when(&Charged::one())
        .then_sends("queue:shipping", &Ship::one())
        .when(&Shipped::one())
        .then_sends("orders", &Confirmed::one())
        .then_nothing()
        .then_completed();
}

#[test]
fn what_was_done_is_undone_the_last_first() {
    given(&checkout(), &Placed::one())
        .when(&Reserved::one())
        .when(&Charged::one())
        .when_nobody_answers() // shipping is down, and has no undo
        .then_sends("queue:payment", &Refund::one())
        .then_nothing()
        .when(&Refunded::one())
        .then_sends("queue:stock", &Release::one())
        .when(&Released::one())
        .then_sends("orders", &rejected("ship: no answer in time"))
        .then_failed("ship: no answer in time");
}

#[test]
fn a_refused_step_is_not_undone_itself() {
    given(&checkout(), &Placed::one())
        .when(&OutOfStock::one())
        .then_sends("orders", &rejected("reserve: stock.out"))
        .then_failed("reserve: stock.out");
}

#[test]
fn a_step_nobody_answered_is_undone_itself_and_its_late_answer_changes_nothing() {
    given(&checkout(), &Placed::one())
        .when(&Reserved::one())
        .when_nobody_answers()
        .then_sends("queue:payment", &Refund::one()) // perhaps it was charged
        .when(&Charged::one())
        .then_nothing()
        .when(&Refunded::one())
        .then_sends("queue:stock", &Release::one())
        .when(&Released::one())
        .then_failed("charge: no answer in time");
}

#[test]
fn answers_that_come_twice_change_nothing() {
    given(&checkout(), &Placed::one())
        .when(&Placed::one())
        .then_nothing()
        .when(&Reserved::one())
        .when(&Reserved::one())
        .then_nothing()
        .when(&Charged::one())
        .then_sends("queue:shipping", &Ship::one());
}

#[test]
fn an_undo_is_asked_for_until_it_is_answered_and_then_a_person_must_look() {
    let saga = checkout();
    let stuck = given(&saga, &Placed::one())
        .when(&Reserved::one())
        .when(&Declined::one())
        .then_sends("queue:stock", &Release::one())
        .when_nobody_answers()
        .then_sends("queue:stock", &Release::one())
        .when_nobody_answers()
        .then_sends("queue:stock", &Release::one())
        .when_nobody_answers()
        .then_nothing();
    assert!(matches!(stuck.phase(), Phase::Stuck { step, .. } if step == "reserve"));
    stuck
        .when_resumed()
        .then_sends("queue:stock", &Release::one())
        .when(&Released::one())
        .then_failed("charge: payment.declined");
}

#[test]
fn a_stuck_saga_still_hears_the_answer_it_waited_for() {
    let saga = checkout();
    let mut stuck = given(&saga, &Placed::one()).when(&Reserved::one()).when(&Declined::one());
    for _ in 0..3 {
        stuck = stuck.when_nobody_answers();
    }
    assert_eq!(stuck.phase().name(), "stuck");
    stuck.when(&Released::one()).then_failed("charge: payment.declined");
}

#[test]
fn called_off_before_it_began_it_never_begins() {
    given(&checkout(), &Cancelled::one())
        .then_nothing()
        .when(&Placed::one())
        .then_sends("orders", &rejected("called off by order.cancelled"))
        .then_nothing()
        .then_failed("called off by order.cancelled");
}

#[test]
fn called_off_while_a_step_is_asked_for_that_step_is_undone_too() {
    given(&checkout(), &Placed::one())
        .when(&Cancelled::one())
        .then_sends("queue:stock", &Release::one())
        .when(&Released::one())
        .then_failed("called off by order.cancelled");
}

#[test]
fn a_step_that_no_program_knows_any_more_is_for_a_person() {
    let mint = Mint::fixed(1);
    let envelope = |message: &Placed| Envelope::of(message, &mint).unwrap();
    let turn = checkout().receive(None, &envelope(&Placed::one()), &mint).unwrap();
    let mut instance = turn.instance.unwrap();
    instance.phase = Phase::Doing { step: "book".to_owned() };
    let turn = checkout().wake(instance, &mint).unwrap();
    assert!(matches!(turn.instance.unwrap().phase, Phase::Stuck { step, .. } if step == "book"));
}

#[test]
fn all_messages_of_a_saga_belong_to_the_story_of_its_first() {
    let mint = Mint::fixed(1);
    let placed = Envelope::of(&Placed::one(), &mint).unwrap();
    let turn = checkout().receive(None, &placed, &mint).unwrap();
    let reserve = &turn.sends[0].envelope;
    assert_eq!((reserve.correlation, reserve.causation), (placed.id, Some(placed.id)));
    assert_eq!(reserve.key.as_deref(), Some("o-1"));

    let reserved = Envelope::of(&Reserved::one(), &mint).unwrap().caused_by(reserve, &mint);
    let turn = checkout().receive(turn.instance, &reserved, &mint).unwrap();
    assert_eq!(turn.sends[0].envelope.correlation, placed.id);
    let mut instance = turn.instance.unwrap();
    mint.advance(Duration::from_secs(60));
    let stored = serde_json::to_string(&instance).unwrap();
    instance = serde_json::from_str(&stored).unwrap();
    let turn = checkout().wake(instance, &mint).unwrap();
    assert_eq!(turn.sends[0].envelope.correlation, placed.id, "also when the clock moved it");
}

#[test]
fn the_waits_between_undos_double_up_to_a_bound() {
    let waits: Vec<u64> = (1..=8).map(|attempt| checkout().undo.wait(attempt).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn the_diagram_shows_the_way_forward_and_the_way_back() {
    let expected = "\
stateDiagram-v2
    [*] --> reserve: order.placed
    reserve --> charge: stock.reserved
    reserve --> failed: stock.out
    reserve --> undo_reserve: no answer within 30s
    reserve --> undo_reserve: order.cancelled
    undo_reserve --> failed: stock.released
    charge --> ship: payment.charged
    charge --> undo_reserve: payment.declined
    charge --> undo_charge: no answer within 60s
    charge --> undo_charge: order.cancelled
    undo_charge --> undo_reserve: payment.refunded
    ship --> completed: parcel.shipped
    ship --> undo_charge: no answer within 60s
    ship --> undo_charge: order.cancelled
    completed --> [*]
    failed --> [*]
";
    assert_eq!(checkout().mermaid(), expected);
    let sources: Vec<String> = checkout().sources().iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["orders", "parcels", "payments", "stock-events"]);
}

async fn sagas() -> (Sagas<Order>, Db, Mint) {
    let mint = Mint::fixed(1);
    let options = DbOptions { mint: mint.clone(), ..DbOptions::default() };
    let db = Db::open_with("sqlite::memory:", options).await.unwrap();
    (Sagas::open(checkout(), &db).await.unwrap(), db, mint)
}

/// The names of the messages in the outbox, in order.
async fn sent(db: &Db) -> Vec<String> {
    let rows = db.query("SELECT event_type FROM outbox ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

#[tokio::test]
async fn a_message_that_is_delivered_again_moves_nothing_and_sends_nothing() {
    let (sagas, db, mint) = sagas().await;
    let placed = Envelope::of(&Placed::one(), &mint).unwrap();
    let moved = sagas.receive(&placed).await.unwrap();
    let doing = Phase::Doing { step: "reserve".to_owned() };
    assert_eq!(moved, Moved::To { id: "o-1".to_owned(), phase: doing });
    assert_eq!(sagas.receive(&placed).await.unwrap(), Moved::Nothing);
    assert_eq!(sent(&db).await, ["stock.reserve"]);
}

#[tokio::test]
async fn the_clock_moves_what_nobody_answered_once() {
    let (sagas, db, mint) = sagas().await;
    for message in [Envelope::of(&Placed::one(), &mint), Envelope::of(&Reserved::one(), &mint)] {
        sagas.receive(&message.unwrap()).await.unwrap();
    }
    assert_eq!(sagas.tick().await.unwrap(), 0, "it is not due");
    mint.advance(Duration::from_secs(60));
    assert_eq!(sagas.tick().await.unwrap(), 1);
    assert_eq!(sagas.tick().await.unwrap(), 0, "the next wait has begun");
    assert_eq!(sent(&db).await, ["stock.reserve", "payment.charge", "payment.refund"]);
    assert_eq!(sagas.list("undoing").await.unwrap(), ["o-1"]);
}

#[tokio::test]
async fn a_person_takes_a_stuck_undo_as_done() {
    let (sagas, db, mint) = sagas().await;
    for message in [
        Envelope::of(&Placed::one(), &mint),
        Envelope::of(&Reserved::one(), &mint),
        Envelope::of(&Declined::one(), &mint),
    ] {
        sagas.receive(&message.unwrap()).await.unwrap();
    }
    for _ in 0..3 {
        mint.advance(Duration::from_secs(60));
        sagas.tick().await.unwrap();
    }
    assert_eq!(sagas.list("stuck").await.unwrap(), ["o-1"]);
    let failed = Phase::Failed { why: "charge: payment.declined".to_owned() };
    assert_eq!(sagas.skip("o-1").await.unwrap(), Moved::To { id: "o-1".to_owned(), phase: failed });
    assert_eq!(sent(&db).await.last().unwrap(), "order.rejected");
    let history = sagas.get("o-1").await.unwrap().unwrap().history;
    assert!(history.iter().any(|moment| moment.what.contains("taken as done by a person")));
}
