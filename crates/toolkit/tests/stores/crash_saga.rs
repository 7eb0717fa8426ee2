//! The crash matrix of sagas: a checkout over stock, payment and shipping, which completes, is refused at its
//! last step, or is not answered at its second. The process is ended at each boundary of each step, on the
//! way there and on the way back: while it decides, when it has moved, while a participant works, when that
//! has committed, when it is acknowledged, before and after what it sends is published. In the end every
//! order has exactly the effects of its story, in their order, and exactly one outcome.
//!
//! The broker here is two files: what was published to it, and which lines of that were acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ottla::db::{Db, DbOptions, Dialect};
use ottla::inbox::{Inbox, Seen};
use ottla::outbox::{Outbox, Relay, RelayOptions, Sink};
use ottla::saga::{Moved, Saga, Sagas, step};
use ottla::transport::BoxFuture;
use ottla::{Envelope, Message, Mint, Outgoing, Result, params};
use serde::{Deserialize, Serialize};

use crate::abort::{Program, append, boundary, lines, told};
use crate::support::Fresh;

macro_rules! messages {
    ($($message:ident $name:tt)*) => {$(
        #[derive(Serialize, Deserialize, Message)]
        #[message(name = $name, key = "order")]
        struct $message { order: String }
    )*};
}
messages! {
    Placed "order.placed" Completed "order.completed" Failed "order.failed"
    Reserve "stock.reserve" Reserved "stock.reserved" Release "stock.release" Released "stock.released"
    Charge "payment.charge" Charged "payment.charged" Refund "payment.refund" Refunded "payment.refunded"
    Ship "shipping.ship" Shipped "shipping.shipped" Refused "shipping.refused"
}

/// What moves the saga: on the way there, on the way back, at its ends.
const MOVES: [&str; 7] = [
    "order.placed",
    "stock.reserved",
    "payment.charged",
    "shipping.shipped",
    "shipping.refused",
    "payment.refunded",
    "stock.released",
];
const REQUESTS: [&str; 5] =
    ["stock.reserve", "payment.charge", "shipping.ship", "payment.refund", "stock.release"];
const DECISIONS: [&str; 7] = [
    "asking reserve",
    "asking charge",
    "asking ship",
    "undoing charge",
    "undoing reserve",
    "completing",
    "failing",
];
const CLOCK: [&str; 2] = ["clock", "clock moved"];
const RELAY: [&str; 3] = ["publishing", "published", "confirmed"];
/// How orders end, and the effects that they must have had.
const STORIES: [(&str, &[&str]); 3] = [
    ("good", &["stock.reserve", "payment.charge", "shipping.ship"]),
    (
        "refused",
        &["stock.reserve", "payment.charge", "shipping.ship", "payment.refund", "stock.release"],
    ),
    ("silent", &["stock.reserve", "payment.charge", "payment.refund", "stock.release"]),
];

fn boundaries() -> Vec<(String, usize)> {
    let moved = MOVES.iter().flat_map(|name| ["moved", "acknowledged"].map(|at| (at, *name)));
    let worked = REQUESTS
        .iter()
        .flat_map(|name| ["marked", "effect", "committed", "acknowledged"].map(|at| (at, *name)));
    let mut all: Vec<(String, usize)> =
        moved.chain(worked).map(|(at, name)| (format!("{at} {name}"), 1)).collect();
    all.extend(DECISIONS.into_iter().chain(CLOCK).map(|name| (name.to_owned(), 1)));
    all.extend(RELAY.into_iter().flat_map(|name| [2, 5].map(|nth| (name.to_owned(), nth))));
    all
}

#[tokio::test]
async fn ended_at_each_boundary_of_each_step_an_order_has_its_effects_once() {
    let fresh = Fresh::new().await;
    let mark = if fresh.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}durability=normal", fresh.url); // processes end here, not the machine
    prepare(&fresh.db).await;
    let mut checkout = Program::new("crash_saga::the_checkout", &url);
    for (boundary, nth) in boundaries() {
        checkout.ended_at(&boundary, nth);
    }
    checkout.run_to_its_end();

    let rows = "SELECT id, what FROM effect ORDER BY n";
    let mut effects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in fresh.db.query(rows, &[]).await.unwrap() {
        effects.entry(row.get(0).unwrap()).or_default().push(row.get(1).unwrap());
    }
    let mut outcomes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut ids: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for line in lines(&checkout.home.join("published")) {
        let (_, envelope) = delivered(&line);
        let order = envelope.key.unwrap();
        let same = ids.entry((order.clone(), envelope.name.clone())).or_default();
        same.insert(envelope.id.to_string());
        assert_eq!(same.len(), 1, "{} of {order} was made twice: {same:?}", envelope.name);
        if envelope.name.starts_with("order.") && envelope.name != Placed::NAME {
            outcomes.entry(order).or_default().insert(envelope.name);
        }
    }
    for run in 1..=checkout.runs() {
        for (story, wanted) in STORIES {
            let order = format!("{story}-{run}");
            assert_eq!(effects.remove(&order).unwrap_or_default(), wanted, "effects of {order}");
            let outcome = if story == "good" { Completed::NAME } else { Failed::NAME };
            let had = outcomes.remove(&order).unwrap_or_default();
            assert_eq!(had, BTreeSet::from([outcome.to_owned()]), "the outcome of {order}");
        }
    }
    assert!(effects.is_empty() && outcomes.is_empty(), "of nobody: {effects:?}, {outcomes:?}");
    assert_eq!(fresh.number("SELECT count(*) FROM outbox").await, 0);
    let under_way = "SELECT count(*) FROM ottla_sagas WHERE phase NOT IN ('completed', 'failed')";
    assert_eq!(fresh.number(under_way).await, 0, "no saga is under way");
}

async fn prepare(db: &Db) {
    Sagas::open(checkout(), db).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let number = match tx.dialect() {
        Dialect::Sqlite => "INTEGER PRIMARY KEY AUTOINCREMENT",
        Dialect::Postgres => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    };
    let effect = format!("CREATE TABLE effect (n {number}, id TEXT NOT NULL, what TEXT NOT NULL)");
    tx.script(&effect).await.unwrap();
    tx.commit().await.unwrap();
}

#[derive(Clone, Serialize, Deserialize)]
struct Order {
    order: String,
}

fn checkout() -> Saga<Order> {
    let of = |order: &Order| order.order.clone();
    Saga::starts_on("checkout", "orders", |placed: Placed| Order { order: placed.order })
        .step(
            step("reserve", "queue:stock", at("asking reserve", move |o| Reserve { order: of(o) }))
                .done_on::<Reserved>("answers")
                .undo("queue:stock", at("undoing reserve", move |o| Release { order: of(o) }))
                .undone_on::<Released>("answers"),
        )
        .step(
            step("charge", "queue:payment", at("asking charge", move |o| Charge { order: of(o) }))
                .done_on::<Charged>("answers")
                .within(WITHIN)
                .undo("queue:payment", at("undoing charge", move |o| Refund { order: of(o) }))
                .undone_on::<Refunded>("answers"),
        )
        .step(
            step("ship", "queue:shipping", at("asking ship", move |o| Ship { order: of(o) }))
                .done_on::<Shipped>("answers")
                .failed_on::<Refused>("answers"),
        )
        .completes_with("outcomes", at("completing", move |o| Completed { order: of(o) }))
        .fails_with("outcomes", move |o, _| {
            boundary("failing");
            Failed { order: of(o) }
        })
}

/// Deciding what to send is a boundary: the message is marked, and nothing is stored yet.
fn at<M>(
    name: &'static str,
    make: impl Fn(&Order) -> M + Send + Sync + 'static,
) -> impl Fn(&Order) -> M + Send + Sync + 'static {
    move |order| {
        boundary(name);
        make(order)
    }
}

/// The whole system, in the child; in the suite itself it has nothing to do.
#[tokio::test]
async fn the_checkout() {
    let Some(told) = told() else { return };
    let mint = Mint::fixed(u64::try_from(told.run).unwrap()); // no time passes but what is told to
    mint.advance(WITHIN * 10_000 * u32::try_from(told.run).unwrap());
    let mut options = DbOptions::default();
    options.mint = mint.clone();
    let db = Db::open_with(&told.url, options).await.unwrap();
    let broker = Files { home: told.home };
    for (story, _) in STORIES {
        let order = format!("{story}-{}", told.run);
        broker.publish_line("orders", &Envelope::of(&Placed { order }, &mint).unwrap());
    }
    let mut options = RelayOptions::default();
    options.lease = Duration::from_millis(1); // its predecessor is dead for sure
    let mut system = System {
        sagas: Sagas::open(checkout(), &db).await.unwrap(),
        inbox: Inbox::open(&db).await.unwrap(),
        outbox: Outbox::open(&db).await.unwrap(),
        relay: Relay::open(&db, broker.clone(), options).await.unwrap(),
        db,
        broker,
    };
    system.relay_all(&mint).await;
    loop {
        if system.deliver().await {
            system.relay_all(&mint).await;
            continue;
        }
        if system.sagas.list("doing").await.unwrap().is_empty() {
            break;
        }
        mint.advance(WITHIN * 2); // all is quiet: whoever waits has waited in vain
        boundary("clock");
        if system.sagas.tick().await.unwrap() > 0 {
            boundary("clock moved");
        }
        system.relay_all(&mint).await;
    }
}

struct System {
    db: Db,
    sagas: Sagas<Order>,
    inbox: Inbox,
    outbox: Outbox,
    relay: Relay<Files>,
    broker: Files,
}

impl System {
    /// Delivers the first message that is not acknowledged. False: there is none.
    async fn deliver(&self) -> bool {
        let file = self.broker.home.join("acknowledged");
        let acknowledged: BTreeSet<usize> =
            lines(&file).iter().map(|line| line.parse().unwrap()).collect();
        let published = lines(&self.broker.home.join("published"));
        let next = published.iter().enumerate().find(|(line, _)| !acknowledged.contains(line));
        let Some((line, text)) = next else { return false };
        let (to, message) = delivered(text);
        match to.as_str() {
            "orders" | "answers" => {
                if self.sagas.receive(&message).await.unwrap() != Moved::Nothing {
                    boundary(&format!("moved {}", message.name));
                }
            }
            "outcomes" => {}
            _ => self.participate(&message).await,
        }
        append(&file, &line.to_string());
        boundary(&format!("acknowledged {}", message.name));
        true
    }

    async fn participate(&self, message: &Envelope) {
        let (order, name) = (message.key.clone().unwrap(), message.name.as_str());
        let mut tx = self.db.begin().await.unwrap();
        if self.inbox.mark(&mut tx, "participants", &message.id.to_string()).await.unwrap()
            == Seen::First
        {
            boundary(&format!("marked {name}"));
            let effect = "INSERT INTO effect (id, what) VALUES ($1, $2)";
            tx.exec(effect, &params![order.as_str(), name]).await.unwrap();
            boundary(&format!("effect {name}"));
            if let Some(answer) = answer(name, order, self.db.mint()) {
                let answer = answer.caused_by(message, self.db.mint());
                self.outbox.put(&mut tx, "answers", answer).await.unwrap();
            }
        }
        tx.commit().await.unwrap();
        boundary(&format!("committed {name}"));
    }

    async fn relay_all(&mut self, mint: &Mint) {
        loop {
            let round = self.relay.round().await.unwrap();
            if round.published > 0 {
                boundary("confirmed");
            } else if round.elsewhere {
                mint.advance(Duration::from_millis(2));
                tokio::time::sleep(Duration::from_millis(1)).await;
            } else {
                return;
            }
        }
    }
}

/// Shipping refuses the orders that are to be refused; payment does what it is asked, and tells of the
/// silent ones nothing.
fn answer(request: &str, order: String, mint: &Mint) -> Option<Envelope> {
    let envelope = match request {
        Reserve::NAME => Envelope::of(&Reserved { order }, mint),
        Release::NAME => Envelope::of(&Released { order }, mint),
        Charge::NAME if order.starts_with("silent") => return None,
        Charge::NAME => Envelope::of(&Charged { order }, mint),
        Refund::NAME => Envelope::of(&Refunded { order }, mint),
        Ship::NAME if order.starts_with("refused") => Envelope::of(&Refused { order }, mint),
        Ship::NAME => Envelope::of(&Shipped { order }, mint),
        other => panic!("nobody answers {other}"),
    };
    Some(envelope.unwrap())
}

#[derive(Clone, Debug)]
struct Files {
    home: PathBuf,
}

impl Files {
    fn publish_line(&self, to: &str, envelope: &Envelope) {
        let text = serde_json::to_string(envelope).unwrap();
        append(&self.home.join("published"), &format!("{to} {text}"));
    }
}

/// Where a line was published to, and what.
fn delivered(line: &str) -> (String, Envelope) {
    let (to, text) = line.split_once(' ').unwrap();
    (to.trim_start_matches("queue:").to_owned(), serde_json::from_str(text).unwrap())
}

impl Sink for Files {
    fn publish<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            boundary("publishing");
            for message in batch {
                self.publish_line(&message.to.to_string(), &message.envelope);
            }
            boundary("published");
            Ok(())
        })
    }
}

/// How long payment may take to answer. The others have a minute, too, and answer at once.
const WITHIN: Duration = Duration::from_secs(60);
