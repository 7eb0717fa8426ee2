//! The seed's section 3, a delay queue: a message that nobody sees before its time.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use std::time::Duration;

use ottla::handler::{Msg, State};
use ottla::{Connection, Envelope, Error, Message, Outgoing, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "payment.reminder")]
struct Reminder {
    text: String,
}

async fn remind(
    Msg(m): Msg<Reminder>,
    State(told): State<mpsc::Sender<String>>,
) -> Result<(), Error> {
    told.send(m.text).await.map_err(|_| Error::Closed("the story"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Connection::open("memory:").await?; // or kafka://…, amqp://…, ottla://…
    let (begun, delay) = (Instant::now(), Duration::from_millis(300)); // the seed: five minutes
    for (text, delay) in [("later", Some(delay)), ("now", None)] {
        let envelope = Envelope::of(&Reminder { text: text.to_owned() }, broker.mint())?;
        broker.send_all([Outgoing { to: "queue:orders".into(), envelope, delay }]).await?;
    }
    let (told, mut heard) = mpsc::channel::<String>(2);
    let both = async move {
        for _ in 0..2 {
            let text = heard.recv().await.unwrap_or_default();
            println!("{text}, not before its time: {}", text == "now" || begun.elapsed() >= delay);
        }
    };
    Service::new("reminders", &broker).state(told).on("queue:orders", remind).run(both).await
}
