//! The services that do the work: inventory, payment, shipping, notification.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ottla::cqrs::Commands;
use ottla::decider::{Decider, EventSet, Scope};
use ottla::durable::InTx;
use ottla::events::{DecideError, Meta};
use ottla::handler::{Emit, Msg, State};
use ottla::{Envelope, Failure, params};
use serde::{Deserialize, Serialize};

use super::messages::*;

/// Takes an item from the shelf, unless the order was released before it was reserved.
pub(crate) async fn reserve(Msg(m): Msg<Reserve>, mut tx: InTx, emit: Emit) -> Result<(), Failure> {
    let known = "SELECT 1 FROM reservation WHERE order_id = $1";
    let called_off = tx.first(known, &params![&m.order]).await?.is_some();
    let take = "UPDATE stock SET n = n - 1 WHERE item = $1 AND n > 0";
    if called_off || tx.exec(take, &params![&m.item]).await? == 0 {
        emit.send("inventory-events", &OutOfStock { order: m.order })?;
        return Ok(());
    }
    tx.exec("INSERT INTO reservation VALUES ($1, TRUE)", &params![&m.order]).await?;
    emit.send("inventory-events", &Reserved { order: m.order })?;
    Ok(())
}

/// Puts it back, and remembers it: a reservation that comes late is refused.
pub(crate) async fn release(Msg(m): Msg<Release>, mut tx: InTx, emit: Emit) -> Result<(), Failure> {
    let release = "UPDATE reservation SET held = FALSE WHERE order_id = $1 AND held";
    if tx.exec(release, &params![&m.order]).await? == 1 {
        tx.exec("UPDATE stock SET n = n + 1 WHERE item = $1", &params![&m.item]).await?;
    } else {
        let remember = "INSERT INTO reservation VALUES ($1, FALSE) ON CONFLICT DO NOTHING";
        tx.exec(remember, &params![&m.order]).await?;
    }
    emit.send("inventory-events", &Released { order: m.order })?;
    Ok(())
}

/// A customer's account: its balance is the sum of what happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account;

/// What happens to an account.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum AccountEvent {
    Deposited { cents: i64 },
    Withdrawn { cents: i64 },
}

impl EventSet for AccountEvent {}

/// What is wanted of an account.
#[derive(Clone, Debug)]
pub(crate) enum AccountCommand {
    Deposit { customer: String, cents: i64 },
    Withdraw { customer: String, cents: i64 },
}

/// Why not.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the account has {balance} cents")]
pub(crate) struct TooLittle {
    balance: i64,
}

impl Decider for Account {
    type Command = AccountCommand;
    type Event = AccountEvent;
    type State = i64;
    type Error = TooLittle;

    fn scope(command: &AccountCommand) -> Scope {
        let (AccountCommand::Deposit { customer, .. } | AccountCommand::Withdraw { customer, .. }) =
            command;
        Scope::stream(format!("account-{customer}"))
    }

    fn decide(balance: &i64, command: AccountCommand) -> Result<Vec<AccountEvent>, TooLittle> {
        match command {
            AccountCommand::Withdraw { cents, .. } if cents > *balance => {
                Err(TooLittle { balance: *balance })
            }
            AccountCommand::Withdraw { cents, .. } => Ok(vec![AccountEvent::Withdrawn { cents }]),
            AccountCommand::Deposit { cents, .. } => Ok(vec![AccountEvent::Deposited { cents }]),
        }
    }

    fn evolve(balance: &mut i64, event: &AccountEvent) {
        match event {
            AccountEvent::Deposited { cents } => *balance += cents,
            AccountEvent::Withdrawn { cents } => *balance -= cents,
        }
    }
}

/// Takes money, if there is enough. Else the customer is reminded a little later.
pub(crate) async fn charge(
    Msg(m): Msg<Charge>,
    message: Envelope,
    mut tx: InTx,
    State(accounts): State<Commands<Account>>,
    emit: Emit,
) -> Result<(), Failure> {
    let withdraw = AccountCommand::Withdraw { customer: m.customer.clone(), cents: m.cents };
    match accounts.handle_in(&mut tx, withdraw, &Meta::caused_by(&message)).await {
        Ok(_) => emit.send("payments", &Charged { order: m.order })?,
        Err(DecideError::Refused(TooLittle { .. })) => {
            let reminder = Reminder { order: m.order.clone(), customer: m.customer };
            emit.send_after(Duration::from_secs(1), "queue:reminders", &reminder)?;
            emit.send("payments", &Declined { order: m.order })?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Gives it back.
pub(crate) async fn refund(
    Msg(m): Msg<Refund>,
    message: Envelope,
    mut tx: InTx,
    State(accounts): State<Commands<Account>>,
    emit: Emit,
) -> Result<(), Failure> {
    let deposit = AccountCommand::Deposit { customer: m.customer, cents: m.cents };
    accounts.handle_in(&mut tx, deposit, &Meta::caused_by(&message)).await?;
    emit.send("payments", &Refunded { order: m.order })?;
    Ok(())
}

/// One of these customers has no address that anybody could deliver to.
pub(crate) const NOWHERE: &str = "nobody";

/// Sends a parcel; over one address it stumbles, whatever is done.
#[expect(clippy::panic, reason = "this is the poison message of the story")]
pub(crate) async fn ship(Msg(m): Msg<Ship>, emit: Emit) -> Result<(), Failure> {
    if m.customer == NOWHERE {
        panic!("an address without a street");
    }
    emit.send("shipments", &Shipped { order: m.order })?;
    Ok(())
}

/// What the notification service has counted.
#[derive(Debug, Default)]
pub(crate) struct Mails {
    pub(crate) confirmed: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) reminders: AtomicU64,
}

/// Choreography: nobody asked for it, it listens.
pub(crate) async fn on_confirmed(_: Msg<OrderConfirmed>, State(mails): State<Arc<Mails>>) {
    mails.confirmed.fetch_add(1, Ordering::Relaxed);
}

pub(crate) async fn on_rejected(_: Msg<OrderRejected>, State(mails): State<Arc<Mails>>) {
    mails.rejected.fetch_add(1, Ordering::Relaxed);
}

pub(crate) async fn on_reminder(_: Msg<Reminder>, State(mails): State<Arc<Mails>>) {
    mails.reminders.fetch_add(1, Ordering::Relaxed);
}
