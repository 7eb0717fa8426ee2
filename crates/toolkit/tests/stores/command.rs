//! Command handling: the event and its publication in one transaction.

use ottla::cqrs::Commands;
use ottla::events::{At, DecideError, EventStore, Meta};
use ottla::outbox::Outbox;

use crate::account::{Account, Command, TooLittle};
use crate::support::Fresh;

#[tokio::test]
async fn an_event_and_its_message_are_there_together_or_not_at_all() {
    let fresh = Fresh::new().await;
    let store = EventStore::open(&fresh.db).await.unwrap();
    let outbox = Outbox::open(&fresh.db).await.unwrap();
    let accounts = Commands::<Account>::new(store.clone()).publishing(outbox.clone(), "accounts");
    let story = Meta::begin(fresh.db.mint());
    let deposit = |amount| Command::Deposit { id: "123".into(), amount };

    let handled = accounts.handle(deposit(100), &story).await.unwrap();
    assert_eq!((handled.state, handled.appended.version), (100, 1));
    assert_eq!(outbox.depth().await.unwrap(), 1);
    let row = &fresh
        .db
        .query("SELECT aggregate_id, event_type, payload, message_id FROM outbox", &[])
        .await
        .unwrap()[0];
    assert_eq!(row.get::<String>(0).unwrap(), "account-123");
    assert_eq!(row.get::<String>(1).unwrap(), "Deposited");
    assert_eq!(row.get::<String>(2).unwrap(), r#"{"amount":100}"#);
    assert_eq!(row.get::<String>(3).unwrap(), handled.appended.events[0].envelope.id.to_string());

    let mut tx = fresh.db.begin().await.unwrap();
    accounts.handle_in(&mut tx, deposit(1), &story).await.unwrap();
    tx.rollback().await.unwrap();
    let refused =
        accounts.handle(Command::Withdraw { id: "123".into(), amount: 101 }, &story).await;
    assert!(matches!(refused, Err(DecideError::Refused(TooLittle { balance: 100, wanted: 101 }))));
    assert_eq!(outbox.depth().await.unwrap(), 1);
    assert_eq!(store.load::<Account>("account-123", At::Latest).await.unwrap().version, 1);
}
