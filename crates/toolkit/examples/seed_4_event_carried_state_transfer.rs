//! The seed's pattern 4, event-carried state transfer: the event has what its readers need, nobody calls back.
#![expect(clippy::print_stdout, reason = "a program that tells what it does")]

use ottla::handler::{Msg, State};
use ottla::view::View;
use ottla::{Connection, Error, Message, Service};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, Message)]
#[message(name = "order.shipped", key = "order_id")]
struct OrderShipped {
    order_id: String,
    customer_email: String,   // included
    shipping_address: String, // included
}

#[derive(Clone, Serialize, Deserialize, Message)]
#[message(name = "customer.changed", key = "customer")]
struct Customer {
    customer: String,
    email: String,
    address: String,
    revision: u64,
}

async fn notify(
    Msg(m): Msg<OrderShipped>,
    State(sent): State<mpsc::Sender<String>>,
) -> Result<(), Error> {
    let mail =
        format!("to {}: order {} goes to {}", m.customer_email, m.order_id, m.shipping_address);
    sent.send(mail).await.map_err(|_| Error::Closed("the post"))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let broker = Connection::open("memory:").await?; // or kafka://…, amqp://…, ottla://…
    for (revision, address) in [(1, "1 Main St"), (2, "2 Side St")] {
        let (customer, email) = ("ada".to_owned(), "user@example.com".to_owned());
        let changed = Customer { customer, email, address: address.to_owned(), revision };
        broker.publish("customers", &changed).await?; // by the service that owns customers
    }

    // Shipping has its own copy of the customers, complete before it begins.
    let customers =
        View::<Customer>::of("customers").newest_by(|c| c.revision).open(&broker).await?;
    if let Some(ada) = customers.get("ada") {
        let shipped = OrderShipped {
            order_id: "123".to_owned(),
            customer_email: ada.email.clone(),
            shipping_address: ada.address.clone(),
        };
        broker.publish("shipments", &shipped).await?;
    }

    let (sent, mut mails) = mpsc::channel::<String>(1);
    let notification = Service::new("notification", &broker).state(sent).on("shipments", notify);
    let one_mail = async move {
        if let Some(mail) = mails.recv().await {
            println!("{mail}");
        }
    };
    notification.run(one_mail).await
}
